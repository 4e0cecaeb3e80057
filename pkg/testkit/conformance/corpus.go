package conformance

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// epoch is about the time of the suites' entries.
var epoch = time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC)

// record is an entry with the values that the reference implementation needs.
type record struct {
	audit.Entry
	leaves  map[string][]string // of the metadata, by path
	numbers map[string][]string // those of the leaves that are numbers
}

// generator makes entries whose values repeat often enough to be filtered by.
type generator struct {
	*rand.Rand
	tenant audit.TenantID
}

func newGenerator(tenant audit.TenantID, seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, 20)), tenant}
}

func pick[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

var vocabulary = []string{"invoice", "in", "invoices", "refund", "Order", "order", "größe", "naïve", "日本", "2024", "v2", "ÅNGSTRÖM", "modifie\u0301", "modifié", "ΟΔΟΣ", "οδος", "数据库", "ผู้ใช้"}

// record makes an entry. Many share a millisecond.
func (g *generator) record() record {
	return g.recordAt(epoch.Add(time.Duration(g.IntN(40)) * pick(g, time.Millisecond, time.Second, time.Hour)))
}

func (g *generator) recordAt(at time.Time) record {
	r := g.plain(at)
	r.SessionID = pick(g, "", "s1", "s2")
	r.RequestID = pick(g, "", "r1", "R1")
	r.ResourceID = pick(g, "", "1", "2", "10")
	r.UserAgent = pick(g, "", "curl/8")
	r.IPAddress = pick(g, netip.Addr{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"),
		netip.MustParseAddr("10.0.7.255"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("a00::1"))
	r.Severity = pick(g, audit.Severities()...)
	r.Changed = pick(g, nil, []string{"a"}, []string{"a", "b.c"}, []string{"total"})
	r.Removed = pick(g, nil, []string{"/metadata/pass~1word", "/message"})
	r.SubmittedBy = pick(g, "", "key:1", "sub:ann", audit.SubmittedByService)
	var words []string
	for range g.IntN(6) {
		words = append(words, pick(g, vocabulary...))
	}
	r.Message = strings.Join(words, pick(g, " ", ", ", "-", " \n"))
	g.addMetadata(&r)
	r.Encrypted = pick(g, nil, nil, []audit.Encrypted{
		{Paths: []string{"/metadata/email"}, Key: "tenant", Data: []byte{1, 2, 3}, Tokens: []audit.ValueToken{g.token()}},
		{Paths: []string{"/message", "/session_id"}, Key: "00112233445566778899aabbccddeeff", Generation: 3, Data: []byte{4}},
	})
	return r
}

// token makes one of a few tokens of encrypted values.
func (g *generator) token() audit.ValueToken { return audit.ValueToken{15: byte(g.IntN(3))} }

// plain makes an entry with only the required fields.
func (g *generator) plain(at time.Time) record {
	var random [10]byte
	binary.BigEndian.PutUint64(random[:], g.Uint64())
	binary.BigEndian.PutUint16(random[8:], uint16(g.Uint32()))
	if g.IntN(4) == 0 { // among the first or the last ids of their millisecond
		copy(random[:4], pick(g, "\x00\x00\x00\x00", "\xff\xff\xff\xff"))
	}
	e := audit.Entry{
		ID: audit.NewEntryID(at, random), Tenant: g.tenant, UserID: pick(g, "ann", "bob", "Ann"), Action: pick(g, "CREATE", "DELETE", "user.login"),
		ResourceType: pick(g, "order", "invoice"), Timestamp: at, ReceivedAt: at.Add(time.Second),
	}
	e.Digest.Sum = sha256.Sum256(e.ID[:])
	return record{Entry: e, leaves: map[string][]string{}, numbers: map[string][]string{}}
}

// addMetadata gives the record an object; it records the scalars in the form of conditions.
func (g *generator) addMetadata(r *record) {
	if g.IntN(4) == 0 {
		return
	}
	object := map[string]any{}
	put := func(path string, value any) any {
		text, isText := value.(string)
		if !isText {
			spelled, _ := json.Marshal(value) // scalars only
			text = decimal.Canonical(string(spelled))
			if decimal.KeyOf(text) != "" {
				r.numbers[path] = append(r.numbers[path], text)
			}
		}
		r.leaves[path] = append(r.leaves[path], text)
		return value
	}
	if g.IntN(2) == 0 {
		object["region"] = put("region", pick[any](g, "eu", "us", "", 1, json.Number("1.0"), json.Number("-2.50e0"), true, nil))
	}
	if g.IntN(2) == 0 {
		object["http"] = map[string]any{"status": put("http.status", pick[any](g, 200, 404, json.Number("250.750"), "200"))}
	}
	if g.IntN(2) == 0 {
		tags := []any{}
		for range g.IntN(4) {
			tags = append(tags, put("tags", pick[any](g, "a", "b", 3)))
		}
		object["tags"] = tags
	}
	r.Metadata, _ = json.Marshal(object) // of scalars, cannot fail
}

// like returns the record for another tenant: the same id and values, with the differences that
// keep the two apart.
func (r record) like(tenant audit.TenantID) record {
	r.Tenant = tenant
	r.UserAgent = "of " + string(tenant)
	return r
}

func entriesOf(records []record) []audit.Entry {
	entries := make([]audit.Entry, len(records))
	for i, r := range records {
		entries[i] = r.Entry
	}
	return entries
}

// sameEntries fails the test unless the entries are equal in every field.
func sameEntries(t *testing.T, got, want []audit.Entry) {
	t.Helper()
	if reflect.DeepEqual(got, want) { // far faster than a diff, but it distinguishes nil from empty
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Fatalf("entries differ (-want +got):\n%s", diff)
	}
}

// values returns the values of a field that conditions compare.
func (r *record) values(field audit.Field) []string {
	if path, ok := field.MetadataPath(); ok {
		return r.leaves[path]
	}
	single := map[audit.Field]string{
		audit.FieldUserID: r.UserID, audit.FieldSessionID: r.SessionID, audit.FieldRequestID: r.RequestID, audit.FieldAction: r.Action,
		audit.FieldResourceType: r.ResourceType, audit.FieldResourceID: r.ResourceID, audit.FieldSeverity: r.Severity.String(),
		audit.FieldSubmittedBy: r.SubmittedBy,
	}
	if r.IPAddress.IsValid() {
		single[audit.FieldIPAddress] = r.IPAddress.Unmap().String()
	}
	if field == audit.FieldChanged {
		return r.Changed
	}
	if single[field] == "" {
		return nil
	}
	return []string{single[field]}
}

// matches is the reference implementation of every condition.
func (r *record) matches(e audit.Expr) bool {
	switch e := e.(type) {
	case nil:
		return true
	case audit.And:
		return !slices.ContainsFunc(e, func(part audit.Expr) bool { return !r.matches(part) })
	case audit.Or:
		return slices.ContainsFunc(e, r.matches)
	case audit.Not:
		return !r.matches(e.Expr)
	case audit.Equals:
		return slices.ContainsFunc(r.values(e.Field), func(v string) bool { return slices.Contains(e.Values, v) })
	case audit.Prefix:
		return slices.ContainsFunc(r.values(e.Field), func(v string) bool { return strings.HasPrefix(v, e.Value) })
	case audit.Has:
		path, ofMetadata := e.Field.MetadataPath()
		return len(r.values(e.Field)) > 0 || ofMetadata && slices.ContainsFunc(slices.Collect(maps.Keys(r.leaves)), func(leaf string) bool { return strings.HasPrefix(leaf, path+".") })
	case audit.Number:
		path, _ := e.Field.MetadataPath()
		return slices.ContainsFunc(r.numbers[path], func(n string) bool {
			key := decimal.KeyOf(n)
			return e.From <= key && (e.To == "" || key < e.To)
		})
	case audit.Network:
		return r.IPAddress.IsValid() && e.Prefix.Contains(r.IPAddress.Unmap())
	case audit.HasToken:
		return r.HasToken(e.Token)
	case audit.Time:
		return inTime(r.Timestamp, e.From, e.To)
	case audit.Received:
		return inTime(r.ReceivedAt, e.From, e.To)
	case audit.Text:
		return hasPhrase(words.Split(r.Message), e)
	}
	panic(fmt.Sprintf("no reference implementation for %T", e))
}

func inTime(at, from, to time.Time) bool {
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

func hasPhrase(words []string, e audit.Text) bool {
	for start := 0; start+len(e.Words) <= len(words); start++ {
		found := true
		for i, want := range e.Words {
			got := words[start+i]
			last := i == len(e.Words)-1
			found = found && (got == want || last && e.Prefix && strings.HasPrefix(got, want))
		}
		if found {
			return true
		}
	}
	return false
}

func (r *record) chosen(f audit.Filter) bool {
	return inTime(r.Timestamp, f.From, f.To) && r.matches(f.Where) && r.matches(f.Unexpired)
}

// filter makes a random filter.
func (g *generator) filter() audit.Filter {
	f := audit.Filter{}
	if g.IntN(3) == 0 {
		f.From = g.time()
	}
	if g.IntN(3) == 0 {
		f.To = g.time()
	}
	if g.IntN(8) > 0 {
		f.Where = g.expr(3)
	}
	if g.IntN(3) == 0 {
		settings := g.retention()
		f = settings.Visible(f, epoch.Add(time.Duration(g.IntN(100))*time.Hour))
	}
	return f
}

func (g *generator) time() time.Time {
	return epoch.Add(time.Duration(g.IntN(42)-1) * pick(g, time.Millisecond, time.Second, time.Hour))
}

// expr makes a random condition, with up to depth levels below it.
func (g *generator) expr(depth int) audit.Expr {
	if depth > 0 && g.IntN(2) == 0 {
		switch g.IntN(3) {
		case 0:
			return audit.Not{Expr: g.expr(depth - 1)}
		case 1:
			return audit.And(g.exprs(depth - 1))
		default:
			return audit.Or(g.exprs(depth - 1))
		}
	}
	switch g.IntN(10) {
	case 0, 1:
		return audit.Time{From: pick(g, time.Time{}, g.time()), To: pick(g, time.Time{}, g.time())}
	case 2, 3:
		return g.text()
	case 4:
		return pick(g, audit.Expr(audit.Has{Field: g.field()}), audit.Expr(audit.HasToken{Token: g.token()}))
	case 5:
		return g.prefix()
	case 6:
		return pick(g, g.number(), audit.Expr(audit.Received{From: pick(g, time.Time{}, g.time()), To: pick(g, time.Time{}, g.time())}), g.network())
	default:
		return g.equals()
	}
}

// prefix makes a condition on the beginning of a value.
func (g *generator) prefix() audit.Expr {
	p := audit.Prefix{Field: g.field()}
	value := pick(g, filterChoices[p.Field]...)
	if value == "" {
		return audit.Has{Field: p.Field}
	}
	p.Value = value[:1+g.IntN(len(value))]
	return p
}

// number makes a condition that compares numbers.
func (g *generator) number() audit.Expr {
	n := audit.Number{Field: pick[audit.Field](g, "metadata.region", "metadata.http.status", "metadata.tags")}
	bound := func() string {
		key := decimal.KeyOf(pick(g, "-1", "0", "1", "2.5", "3", "200", "250.75", "404"))
		return pick(g, "", key, decimal.After(key))
	}
	n.From, n.To = bound(), bound()
	return n
}

// network makes a condition on the network of the address.
func (g *generator) network() audit.Expr {
	address := pick(g, netip.MustParseAddr("10.0.7.0"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("a00::"))
	bits := g.IntN(address.BitLen() + 1)
	return audit.Network{Prefix: netip.PrefixFrom(address, bits).Masked()}
}

func (g *generator) exprs(depth int) []audit.Expr {
	exprs := make([]audit.Expr, g.IntN(4))
	for i := range exprs {
		exprs[i] = g.expr(depth)
	}
	return exprs
}

func (g *generator) text() audit.Text {
	text := audit.Text{Words: words.Split(pick(g, vocabulary...)), Prefix: g.IntN(2) == 0}
	if g.IntN(2) == 0 {
		text.Words = append(text.Words, words.Split(pick(g, vocabulary...))...)
	}
	if text.Prefix {
		last := []rune(text.Words[len(text.Words)-1])
		text.Words[len(text.Words)-1] = string(last[:1+g.IntN(len(last))])
	}
	return text
}

var filterChoices = map[audit.Field][]string{
	audit.FieldUserID: {"ann", "Ann", "carol"}, audit.FieldSessionID: {"s1", "s2", ""}, audit.FieldRequestID: {"r1", "R1"},
	audit.FieldAction: {"CREATE", "create", "user.login"}, audit.FieldResourceType: {"order", "invoice"}, audit.FieldResourceID: {"1", "10"},
	audit.FieldSeverity: {"INFO", "CRITICAL", "ERROR"}, audit.FieldIPAddress: {"10.0.0.1", "2001:db8::1"}, audit.FieldChanged: {"a", "b.c", "b"},
	audit.FieldSubmittedBy: {"key:1", "service", "sub:Ann"},
	"metadata.region":      {"eu", "", "1", "true", "null"}, "metadata.http.status": {"200", "404", "250.75"}, "metadata.tags": {"a", "3"}, "metadata.http": {"200"},
}

func (g *generator) field() audit.Field {
	fields := append(audit.FilterFields(), "metadata.region", "metadata.http.status", "metadata.tags", "metadata.http")
	return pick(g, fields...)
}

func (g *generator) equals() audit.Equals {
	e := audit.Equals{Field: g.field()}
	for range g.IntN(4) {
		e.Values = append(e.Values, pick(g, filterChoices[e.Field]...))
	}
	return e
}

// retention makes random settings about expiry. Their ends are around epoch.
func (g *generator) retention() audit.Settings {
	s := audit.Settings{RetentionDays: g.IntN(3), SearchableDays: g.IntN(4)}
	rules := []audit.RetentionRule{{Action: "CREATE"}, {Action: "DELETE"}, {Action: "user.login"}, {Action: "create"}}
	for _, severity := range audit.Severities() {
		rules = append(rules, audit.RetentionRule{Severity: &severity})
	}
	g.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	for _, r := range rules[:g.IntN(len(rules)+1)] {
		r.Days = g.IntN(3)
		s.RetentionRules = append(s.RetentionRules, r)
	}
	return s
}
