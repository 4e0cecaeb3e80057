package protect_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// ruleOf returns a rule with its defaults.
func ruleOf(path string) audit.SensitiveField { return audit.SensitiveField{Path: path}.WithDefaults() }

func TestMaskReplacesWhatTheRulesCover(t *testing.T) {
	for name, test := range map[string]struct {
		paths        []string
		before, want string // of the metadata
		masked       []string
	}{
		"a member":                          {[]string{"metadata.a"}, `{"a":"x","b":"y"}`, `{"a":"[masked]","b":"y"}`, []string{"/metadata/a"}},
		"names without case, - and _":       {[]string{"metadata.first_name"}, `{"First-Name":"x","firstName":"y","first":"z"}`, `{"First-Name":"[masked]","firstName":"[masked]","first":"z"}`, []string{"/metadata/First-Name", "/metadata/firstName"}},
		"an object as a whole":              {[]string{"metadata.a"}, `{"a":{"b":1,"c":[2]}}`, `{"a":"[masked]"}`, []string{"/metadata/a"}},
		"an array by element":               {[]string{"metadata.a"}, `{"a":["x",["y"],{"z":1}]}`, `{"a":["[masked]",["[masked]"],"[masked]"]}`, []string{"/metadata/a/0", "/metadata/a/1/0", "/metadata/a/2"}},
		"members of an array":               {[]string{"metadata.a.b"}, `{"a":[{"b":"x","c":1},{"b":"y"}]}`, `{"a":[{"b":"[masked]","c":1},{"b":"[masked]"}]}`, []string{"/metadata/a/0/b", "/metadata/a/1/b"}},
		"any depth":                         {[]string{"**.b"}, `{"b":"x","a":{"c":{"b":"y"}}}`, `{"b":"[masked]","a":{"c":{"b":"[masked]"}}}`, []string{"/metadata/b", "/metadata/a/c/b"}},
		"two names at any depth":            {[]string{"**.a.b"}, `{"b":"x","a":{"b":"y","a":{"b":"z"}}}`, `{"b":"x","a":{"b":"[masked]","a":{"b":"[masked]"}}}`, []string{"/metadata/a/b", "/metadata/a/a/b"}},
		"any name":                          {[]string{"metadata.*.b"}, `{"b":"x","a":{"b":"y"},"c":{"b":"z","d":1}}`, `{"b":"x","a":{"b":"[masked]"},"c":{"b":"[masked]","d":1}}`, []string{"/metadata/a/b", "/metadata/c/b"}},
		"a name with dots":                  {[]string{"metadata.a.b"}, `{"a.b":"x"}`, `{"a.b":"[masked]"}`, []string{"/metadata/a.b"}},
		"a dotted name below a covered one": {[]string{"metadata.a"}, `{"a.b":"x","a":{"b":"y"}}`, `{"a.b":"[masked]","a":"[masked]"}`, []string{"/metadata/a.b", "/metadata/a"}},
		"a dotted name at any depth":        {[]string{"**.email"}, `{"x":{"email.work":"y","work.email":"z","work":"w"}}`, `{"x":{"email.work":"[masked]","work.email":"[masked]","work":"w"}}`, []string{"/metadata/x/email.work", "/metadata/x/work.email"}},
		"a name with very many dots":        {[]string{"**.iban"}, `{"` + strings.Repeat("a.", 10_000) + `iban":"x","` + strings.Repeat("b.", 10_000) + `c":"y"}`, `{"` + strings.Repeat("a.", 10_000) + `iban":"[masked]","` + strings.Repeat("b.", 10_000) + `c":"y"}`, []string{"/metadata/" + strings.Repeat("a.", 10_000) + "iban"}},
		"numbers and booleans":              {[]string{"metadata.a"}, `{"a":[1.50,true,false]}`, `{"a":["[masked]","[masked]","[masked]"]}`, []string{"/metadata/a/0", "/metadata/a/1", "/metadata/a/2"}},
		"nothing to hide":                   {[]string{"metadata.a"}, `{"a":[null,"",{},[]]}`, `{"a":[null,"",{},[]]}`, nil},
		"a removed secret":                  {[]string{"metadata.a"}, `{"a":"[removed]"}`, `{"a":"[removed]"}`, nil},
		"a client's own mask":               {[]string{"metadata.a"}, `{"a":"[masked]"}`, `{"a":"[masked]"}`, []string{"/metadata/a"}},
		"escapes in names":                  {[]string{"metadata.a/b"}, `{"a\/b":"x"}`, `{"a\/b":"[masked]"}`, []string{"/metadata/a~1b"}},
		"another field":                     {[]string{"before_state.a"}, `{"a":"x"}`, `{"a":"x"}`, nil},
		"a sibling after a nested find":     {[]string{"metadata.a.b", "metadata.c"}, `{"a":{"b":1,"x":{"c":2}},"c":3}`, `{"a":{"b":"[masked]","x":{"c":2}},"c":"[masked]"}`, []string{"/metadata/a/b", "/metadata/c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var fields []audit.SensitiveField
			for _, path := range test.paths {
				fields = append(fields, ruleOf(path))
			}
			e := audit.Entry{Metadata: audit.Object(test.before)}
			covered, invalid := protect.NewRules(fields).Mask(&e)
			if invalid != nil {
				t.Fatal(invalid)
			}
			if got := string(e.Metadata); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if diff := cmp.Diff(test.masked, placesOf(t, covered)); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
		})
	}
}

// placesOf returns the places in the order of their values.
func placesOf(t *testing.T, covered *protect.Covered) []string {
	t.Helper()
	if covered == nil {
		return nil
	}
	e := audit.Entry{Tenant: "acme"}
	if err := covered.Encrypt(tenantKeys(t, 1), nil, &e, zeros); err != nil {
		t.Fatal(err)
	}
	return e.Encrypted[0].Paths
}

func zeros(b []byte) { clear(b) }

func tenantKeys(t *testing.T, seed byte) *protect.TenantKeys {
	t.Helper()
	keys, err := protect.NewTenantKeys([]byte(strings.Repeat(string(rune(seed)), protect.KeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestMaskCoversTopLevelFields(t *testing.T) {
	var fields []audit.SensitiveField
	for _, path := range []string{"message", "ip_address", "user_agent", "session_id"} {
		f := ruleOf(path)
		f.Subject = "" // one key
		fields = append(fields, f)
	}
	e := audit.Entry{Message: "hello", IPAddress: netip.MustParseAddr("2001:db8:1:2::3"), UserAgent: "curl", SessionID: "s-1"}
	covered, invalid := protect.NewRules(fields).Mask(&e)
	if invalid != nil {
		t.Fatal(invalid)
	}
	want := audit.Entry{Message: protect.Masked, IPAddress: netip.MustParseAddr("2001:db8:1::"), UserAgent: protect.Masked, SessionID: protect.Masked}
	if diff := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the entry (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/message", "/session_id", "/user_agent", "/ip_address"}, placesOf(t, covered)); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

// TestChangedEndsAtAMaskedPlace: no path leads into an object that is hidden.
func TestChangedEndsAtAMaskedPlace(t *testing.T) {
	e := audit.Entry{
		Before: audit.Object(`{"address":{"street":"a","city":"b"},"n":1}`), After: audit.Object(`{"address":{"street":"c","city":"d"},"n":2}`),
		Changed: []string{"address.city", "address.street", "n"},
	}
	if _, invalid := protect.NewRules([]audit.SensitiveField{ruleOf("before_state.address")}).Mask(&e); invalid != nil {
		t.Fatal(invalid)
	}
	if diff := cmp.Diff([]string{"address", "n"}, e.Changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestSubjects(t *testing.T) {
	fields := []audit.SensitiveField{
		{Path: "metadata.a", Mask: audit.MaskFull, Subject: audit.SubjectUser},
		{Path: "metadata.b", Mask: audit.MaskFull, Subject: "metadata.customer.id"},
		{Path: "metadata.c", Mask: audit.MaskFull, Subject: "metadata.absent"},
		{Path: "metadata.d", Mask: audit.MaskFull, Subject: audit.SubjectResource},
	}
	e := audit.Entry{UserID: "u", ResourceID: "r", Metadata: audit.Object(`{"a":1,"b":2,"c":3,"d":4,"absent":null,"Customer":{"ID":[null,true,"c-7","c-8"]}}`)}
	covered, invalid := protect.NewRules(fields).Mask(&e)
	if invalid != nil {
		t.Fatal(invalid)
	}
	if diff := cmp.Diff([]string{"u", "c-7", "r"}, covered.Subjects()); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
}

// TestRemovedEndsAtAMaskedPlace: no place of a secret leads into an object that is hidden.
func TestRemovedEndsAtAMaskedPlace(t *testing.T) {
	e := audit.Entry{
		Metadata: audit.Object(`{"customers":{"ann@example.com":{"token":"[removed]","key":"[removed]"}},"token":"[removed]"}`),
		Removed:  []string{"/metadata/customers/ann@example.com/token", "/metadata/customers/ann@example.com/key", "/metadata/token"},
	}
	if _, invalid := protect.NewRules([]audit.SensitiveField{ruleOf("metadata.customers")}).Mask(&e); invalid != nil {
		t.Fatal(invalid)
	}
	if diff := cmp.Diff([]string{"/metadata/customers", "/metadata/token"}, e.Removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
}

// TestManyValuesBelowALongNameAreRefused: their places would take a thousand times the entry.
func TestManyValuesBelowALongNameAreRefused(t *testing.T) {
	rules := protect.NewRules([]audit.SensitiveField{{Path: "**.iban", Mask: audit.MaskFull, Searchable: true}})
	elements := strings.Repeat("1,", 99) + "1"
	values := strings.Repeat("["+elements+"],", 9) + "[" + elements + "]"
	text := audit.Object(`{"` + strings.Repeat("n", 240_000) + `":{"iban":[` + values + `]}}`)
	allocated := testing.AllocsPerRun(1, func() {
		e := audit.Entry{Metadata: text}
		if _, invalid := rules.Mask(&e); invalid == nil {
			t.Error("1,000 values below a name of 240,000 bytes are accepted, want an error")
		}
	})
	if most := 100.0; allocated > most {
		t.Errorf("%v allocations, want at most %v: the walk ends at the bound", allocated, most)
	}
}

// TestAnEntryWithTooManyValuesIsRefused: but a long array is one value.
func TestAnEntryWithTooManyValuesIsRefused(t *testing.T) {
	rules := protect.NewRules([]audit.SensitiveField{ruleOf("**.a")})
	members := make([]string, 1001)
	for i := range members {
		members[i] = fmt.Sprintf(`"m%d":{"a":1}`, i)
	}
	e := audit.Entry{Metadata: audit.Object("{" + strings.Join(members, ",") + "}")}
	if _, invalid := rules.Mask(&e); invalid == nil {
		t.Error("1,001 values are accepted, want an error")
	}
	e = audit.Entry{Metadata: audit.Object("{" + strings.Join(members[:1000], ",") + "}")}
	if _, invalid := rules.Mask(&e); invalid != nil {
		t.Errorf("1,000 values: got %v, want nil", invalid)
	}
	e = audit.Entry{Metadata: audit.Object(`{"a":[` + strings.Repeat("1,", 5000) + `1]}`)}
	if _, invalid := rules.Mask(&e); invalid != nil {
		t.Fatal(invalid)
	}
	if got, want := string(e.Metadata), `{"a":"[masked]"}`; got != want {
		t.Errorf("a long array: got %s, want %s", got, want)
	}
}

func TestMaskOf(t *testing.T) {
	for _, test := range []struct {
		mask       audit.Mask
		text, want string
	}{
		{audit.MaskFull, "anything", "[masked]"},
		{audit.MaskEmail, "ann@example.com", "•••@example.com"},
		{audit.MaskEmail, "ann@bücher.example", "•••@bücher.example"},
		{audit.MaskEmail, "@example.com", "[masked]"},
		{audit.MaskEmail, "ann@localhost", "[masked]"},
		{audit.MaskEmail, "a@b@example.com", "[masked]"},
		{audit.MaskEmail, "call ann@example.com now", "[masked]"},
		{audit.MaskEmail, "ann@example.com/secret", "[masked]"},
		{audit.MaskEmail, "", "[masked]"},
		{audit.MaskEmail, "x@密码是、…\u3000….abc", "[masked]"},
		{audit.MaskEmail, "x@" + strings.Repeat("a", 64) + ".com", "[masked]"},
		{audit.MaskIP, "203.0.113.77", "203.0.113.0"},
		{audit.MaskIP, "2001:db8:1:2::3", "2001:db8:1::"},
		{audit.MaskIP, "::ffff:203.0.113.77", "::ffff:203.0.113.0"},
		{audit.MaskIP, "fe80::1%eth0", "fe80::"},
		{audit.MaskIP, "203.0.113", "[masked]"},
		{audit.MaskLast4, "4111111111110007", "••••0007"},
		{audit.MaskLast4, "12345678", "••••78"},
		{audit.MaskLast4, "123456789012", "••••012"},
		{audit.MaskLast4, "1234567", "[masked]"},
		{audit.MaskLast4, "ééééééée", "••••ée"},
	} {
		if got := protect.MaskOf(test.mask, test.text); got != test.want {
			t.Errorf("%s of %q: got %q, want %q", test.mask, test.text, got, test.want)
		}
	}
}

// A subject that is too long to be erased encrypts nothing.
func TestALongSubjectIsRefused(t *testing.T) {
	fields := []audit.SensitiveField{{Path: "metadata.a", Mask: audit.MaskFull, Subject: "metadata.customer"}}
	for _, c := range []struct {
		member string
		length int
		want   string // the code; "": it is taken
	}{
		{"a", protect.MaxSubject, ""},
		{"a", protect.MaxSubject + 1, "subject_too_long"},
		{"b", protect.MaxSubject + 1, ""}, // nothing is encrypted
	} {
		e := audit.Entry{Metadata: fmt.Appendf(nil, `{"%s":1,"customer":"%s"}`, c.member, strings.Repeat("x", c.length))}
		_, invalid := protect.NewRules(fields).Mask(&e)
		got := ""
		if invalid != nil {
			got = invalid.Fields[0].Code
		}
		if got != c.want {
			t.Errorf("%s beside a subject of %d bytes: got the code %q, want %q", c.member, c.length, got, c.want)
		}
	}
}
