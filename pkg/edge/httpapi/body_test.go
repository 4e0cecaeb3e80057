package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func zstandard(t testing.TB, text string, opts ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBulkBodies(t *testing.T) {
	w := newWorld(t)
	one := "[" + entry("") + "]"
	spaces := func(n int) string { return strings.Repeat(" ", n) }
	lines := entry("") + "\n\n \t\r\n" + entry("") + "\r\n{\"broken\n" + entry("") // no line break at the end
	padded := func(size int) string { return "[" + entry("") + spaces(size-len(one)) + "]" }
	many := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(entry("")+",", n), ",") + "]" }
	const ndjson, array = "application/x-ndjson", "application/json"
	for name, test := range map[string]struct {
		body, media, encoding string
		status                int
		code                  string
	}{
		"array":                       {one, array, "", 202, ""},
		"array with white space":      {" \r\n\t" + one + "\n", array, "", 202, ""},
		"charset":                     {one, "application/json; charset=UTF-8", "", 202, ""},
		"other charset":               {one, "application/json; charset=utf-16", "", 415, "unsupported_media_type"},
		"capitals":                    {one, "Application/JSON", "", 202, ""},
		"lines":                       {lines, ndjson, "", 207, ""},
		"jsonl":                       {lines, "application/jsonl", "", 207, ""},
		"identity":                    {one, array, "identity", 202, ""},
		"gzip":                        {gzipped(one), array, "gzip", 202, ""},
		"gzip lines":                  {gzipped(lines), ndjson, "GZIP", 207, ""},
		"gzip of two members":         {gzipped(entry("")+"\n") + gzipped(entry("")), ndjson, "gzip", 202, ""},
		"zstd":                        {zstandard(t, one), array, "zstd", 202, ""},
		"zstd of two frames":          {zstandard(t, entry("")+"\n") + zstandard(t, entry("")), ndjson, "zstd", 202, ""},
		"zstd, window of 8 MiB":       {zstandard(t, padded(9<<20), zstd.WithWindowSize(8<<20)), array, "zstd", 202, ""},
		"zstd, window of 16 MiB":      {zstandard(t, padded(9<<20), zstd.WithWindowSize(16<<20)), array, "zstd", 413, "too_large"},
		"no type":                     {one, "", "", 415, "unsupported_media_type"},
		"other type":                  {one, "text/plain", "", 415, "unsupported_media_type"},
		"damaged type":                {one, "application/json;;=", "", 415, "unsupported_media_type"},
		"other encoding":              {one, array, "br", 415, "unsupported_media_type"},
		"two encodings":               {gzipped(one), array, "gzip, gzip", 415, "unsupported_media_type"},
		"not gzip":                    {one, array, "gzip", 400, "malformed_request"},
		"not zstd":                    {one, array, "zstd", 400, "malformed_request"},
		"cut gzip":                    {gzipped(one)[:40], array, "gzip", 400, "malformed_request"},
		"cut zstd":                    {zstandard(t, one)[:40], array, "zstd", 400, "malformed_request"},
		"gzip with a wrong checksum":  {flipped(gzipped(one), -8), array, "gzip", 400, "malformed_request"},
		"zstd with a wrong checksum":  {flipped(zstandard(t, one), -1), array, "zstd", 400, "malformed_request"},
		"garbage after gzip":          {gzipped(one) + "garbage after it", array, "gzip", 400, "malformed_request"},
		"garbage after zstd":          {zstandard(t, one) + "garbage", array, "zstd", 400, "malformed_request"},
		"a byte after zstd":           {zstandard(t, one) + "x", array, "zstd", 400, "malformed_request"},
		"empty gzip":                  {gzipped(""), array, "gzip", 400, "malformed_request"},
		"empty body":                  {"", array, "", 400, "malformed_request"},
		"empty lines":                 {"\n\n", ndjson, "", 422, "invalid"},
		"empty array":                 {"[ ]", array, "", 422, "invalid"},
		"object":                      {entry(""), array, "", 400, "malformed_request"},
		"lines as an array":           {lines, array, "", 400, "malformed_request"},
		"open array":                  {"[" + entry("") + ",", array, "", 400, "malformed_request"},
		"comma too many":              {"[" + entry("") + ",]", array, "", 400, "malformed_request"},
		"broken element":              {"[" + entry("") + `,{"a":}]`, array, "", 400, "malformed_request"},
		"something after the array":   {one + "[]", array, "", 400, "malformed_request"},
		"elements that are no object": {"[" + entry("") + `,5,"x",null,[]]`, array, "", 207, ""},
		"1,000 entries":               {many(1000), array, "", 202, ""},
		"1,001 entries":               {many(1001), array, "", 422, "invalid"},
		"1,001 lines":                 {strings.Repeat(entry("")+"\n", 1001), ndjson, "", 422, "invalid"},
		"4 MiB":                       {padded(4 << 20), array, "", 202, ""},
		"4 MiB and a byte":            {padded(4<<20 + 1), array, "", 413, "too_large"},
		"16 MiB unpacked":             {gzipped(padded(16 << 20)), array, "gzip", 202, ""},
		"16 MiB and a byte unpacked":  {gzipped(padded(16<<20 + 1)), array, "gzip", 413, "too_large"},
		"16 MiB of zstd":              {zstandard(t, padded(16<<20), zstd.WithWindowSize(1<<20)), array, "zstd", 202, ""},
		"16 MiB and a byte of zstd":   {zstandard(t, padded(16<<20+1), zstd.WithWindowSize(1<<20)), array, "zstd", 413, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			before := len(w.standard.take())
			got := w.call("admin", "POST", "/logs/bulk", test.body, map[string]string{"Content-Type": test.media, "Content-Encoding": test.encoding}).want(t, test.status, test.code)
			if sent, want := len(w.standard.take()), test.status < 300; (sent > 0) != want {
				t.Errorf("%d messages were sent (%d before) with a %d, want some: %t", sent, before, got.status, want)
			}
		})
	}
	w.t = t
}

// flipped returns the text with one byte changed, counted from the end.
func flipped(text string, at int) string {
	b := []byte(text)
	b[len(b)+at] ^= 0xff
	return string(b)
}

func TestBulkTellsWhereAnArrayBreaks(t *testing.T) {
	w := newWorld(t)
	body := "[" + entry("") + "," + entry("") + ` {"a":1}]`
	p := w.call("admin", "POST", "/logs/bulk", body, nil).want(t, 400, "malformed_request").problem(t)
	if want := fmt.Sprintf("at byte %d.", strings.Index(body, ` {"a"`)+1); !strings.Contains(p.Detail, want) {
		t.Errorf("got detail %q, want it to contain %q", p.Detail, want)
	}
	if sent := len(w.standard.take()); sent != 0 {
		t.Errorf("sent %d messages, want 0", sent)
	}
}

// counting counts what is read of a body that never ends.
type counting struct {
	head io.Reader
	fill byte
	read int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.head.Read(p)
	if errors.Is(err, io.EOF) {
		for n = range p {
			p[n] = c.fill
		}
		n, err = len(p), nil
	}
	c.read += int64(n)
	return n, err
}

func (w *world) bulk(body io.Reader, length int64, header map[string]string) reply {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), "POST", manifest.BasePath+"/logs/bulk", body)
	r.ContentLength = length
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("X-Tenant-ID", "acme")
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return w.send(r)
}

func TestBodiesAreReadNoFurtherThanTheirLimit(t *testing.T) {
	w := newWorld(t)
	announced := &counting{head: strings.NewReader("[")}
	w.bulk(announced, audit.MaxBulkWire+1, nil).want(t, 413, "too_large")
	if announced.read != 0 {
		t.Errorf("read %d bytes of a body that announced to be too large, want 0", announced.read)
	}
	endless := &counting{head: strings.NewReader("["), fill: ' '}
	w.bulk(endless, -1, nil).want(t, 413, "too_large")
	if endless.read > audit.MaxBulkWire+1 {
		t.Errorf("read %d bytes of an endless body, want at most %d", endless.read, audit.MaxBulkWire+1)
	}
	// 4 MiB of gzip that would unpack to some 4 GiB.
	bomb := gzipped(strings.Repeat(" ", 64<<20))
	bombs := &counting{head: strings.NewReader(strings.Repeat(bomb, audit.MaxBulkWire/len(bomb)))}
	w.bulk(bombs, -1, map[string]string{"Content-Encoding": "gzip"}).want(t, 413, "too_large")
	if most := int64(64 << 10); bombs.read > most {
		t.Errorf("read %d bytes of a bomb that passes its limit in the first of them, want at most %d", bombs.read, most)
	}
	skippable := binary.LittleEndian.AppendUint32(nil, 0x184D2A50)
	skippable = binary.LittleEndian.AppendUint32(skippable, 0xffffffff)
	endlessFrame := &counting{head: bytes.NewReader(skippable)}
	w.bulk(endlessFrame, -1, map[string]string{"Content-Encoding": "zstd"}).want(t, 413, "too_large")
	if endlessFrame.read > audit.MaxBulkWire+1 {
		t.Errorf("read %d bytes of an endless zstd frame, want at most %d", endlessFrame.read, audit.MaxBulkWire+1)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestABodyThatEndsEarlyIsMalformed(t *testing.T) {
	w := newWorld(t)
	for _, encoding := range []string{"identity", "gzip", "zstd"} {
		body := io.MultiReader(strings.NewReader(""), failing{io.ErrUnexpectedEOF})
		w.bulk(body, 100, map[string]string{"Content-Encoding": encoding}).want(t, 400, "malformed_request")
	}
}

func TestPooledBuffersDoNotLeakFromOneRequestToTheNext(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		body := "[" + strings.TrimSuffix(strings.Repeat(entry(fmt.Sprintf(`,"message":"m%d"`, i))+",", 1+i*7%13), ",") + "]"
		encoding := []string{"identity", "gzip", "zstd"}[i%3]
		switch encoding {
		case "gzip":
			body = gzipped(body)
		case "zstd":
			body = zstandard(t, body)
		}
		if i%10 == 9 {
			body = body[:len(body)-3]
		}
		got := w.bulk(strings.NewReader(body), -1, map[string]string{"Content-Encoding": encoding})
		if i%10 == 9 {
			got.want(t, 400, "malformed_request")
			continue
		}
		var answer struct{ Accepted int }
		got.want(t, 202, "").decode(t, &answer)
		if want := 1 + i*7%13; answer.Accepted != want {
			t.Fatalf("request %d: accepted %d entries, want %d: %s", i, answer.Accepted, want, got.body)
		}
	}
}

func TestBulkAnswer(t *testing.T) {
	w := newWorld(t)
	keyed := entry(`,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"k1"`)
	body := strings.Join([]string{
		keyed, keyed, entry(`,"timestamp":"2020-01-01T00:00:00Z"`), `{"user_id":"ann","colour":1}`, `{"broken`, entry(`,"severity":"DEBUG"`),
	}, "\n\n")
	got := w.call("admin", "POST", "/logs/bulk", body, map[string]string{"Content-Type": "application/x-ndjson", "X-Request-Id": "r-7"}).want(t, 207, "")
	var answer struct {
		Accepted, Duplicate, Filtered, Expired, Rejected int
		Items                                            []struct {
			Index  int
			ID     *string
			Status string
			Error  *problemDocument
		}
	}
	got.decode(t, &answer)
	if answer.Accepted != 1 {
		t.Errorf("the counts: accepted %d, want 1", answer.Accepted)
	}
	if answer.Duplicate != 1 {
		t.Errorf("the counts: duplicate %d, want 1", answer.Duplicate)
	}
	if answer.Filtered != 0 {
		t.Errorf("the counts: filtered %d, want 0", answer.Filtered)
	}
	if answer.Expired != 1 {
		t.Errorf("the counts: expired %d, want 1", answer.Expired)
	}
	if answer.Rejected != 3 {
		t.Errorf("the counts: rejected %d, want 3", answer.Rejected)
	}
	statuses := []string{"accepted", "duplicate", "expired", "rejected", "rejected", "rejected"}
	for i, item := range answer.Items {
		if item.Index != i {
			t.Errorf("%+v: got index %d, want %d", item, item.Index, i)
		}
		if item.Status != statuses[i] {
			t.Errorf("item %d: %+v: got status %q, want %q", i, item, item.Status, statuses[i])
		}
		if (item.Error != nil) != (item.Status == "rejected") {
			t.Errorf("item %d: %+v: got error %v, want one only if rejected", i, item, item.Error)
		}
		if item.Error != nil {
			item.Error.wantRejected(t, i)
		}
	}
	if answer.Items[0].ID == nil {
		t.Error("an identity sent twice: got no ID, want one")
	} else if *answer.Items[0].ID != *answer.Items[1].ID {
		t.Errorf("an identity sent twice: got ID %q, want %q", *answer.Items[0].ID, *answer.Items[1].ID)
	}
	if answer.Items[4].ID != nil {
		t.Errorf("an unreadable entry has the id %s, want none", *answer.Items[4].ID)
	}
}

// wantRejected checks the error of a rejected item.
func (p problemDocument) wantRejected(t *testing.T, index int) {
	t.Helper()
	if want := "urn:ocelot:problem:invalid"; p.Type != want {
		t.Errorf("item %d: got error type %q, want %q", index, p.Type, want)
	}
	if want := http.StatusUnprocessableEntity; p.Status != want {
		t.Errorf("item %d: got error status %d, want %d", index, p.Status, want)
	}
	if want := "r-7"; p.RequestID != want {
		t.Errorf("item %d: got request id %q, want %q", index, p.RequestID, want)
	}
	if len(p.Errors) == 0 {
		t.Errorf("item %d: got no faults of fields in %+v, want some", index, p)
	}
}

func TestFilteredEntriesAreAnsweredSo(t *testing.T) {
	w := newWorld(t)
	tenant, err := w.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	tenant.Settings.LogLevels = []audit.Severity{audit.SeverityError}
	tenant.Version++
	if err := w.db.Tenants().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	got := w.call("admin", "POST", "/logs", entry(""), nil).want(t, 200, "")
	if want := `,"status":"filtered"}`; !strings.HasSuffix(got.body, want) {
		t.Errorf("got %s, want it to end with %s", got.body, want)
	}
	w.call("admin", "POST", "/logs/bulk", "["+entry("")+","+entry(`,"severity":"ERROR"`)+"]", nil).want(t, 207, "")
}

func TestCreateLog(t *testing.T) {
	w := newWorld(t)
	exact := func(size int) string {
		text := entry(`,"metadata":{"a":""}`)
		return text[:len(text)-3] + strings.Repeat("x", size-len(text)) + text[len(text)-3:]
	}
	for name, test := range map[string]struct {
		body   string
		header map[string]string
		status int
		code   string
	}{
		"entry":                     {entry(""), nil, 202, ""},
		"gzip":                      {gzipped(entry("")), map[string]string{"Content-Encoding": "gzip"}, 202, ""},
		"idempotency key":           {entry(`,"timestamp":"2026-03-02T09:00:00Z"`), map[string]string{"Idempotency-Key": "k"}, 202, ""},
		"key without a timestamp":   {entry(""), map[string]string{"Idempotency-Key": "k"}, 422, "invalid"},
		"key that disagrees":        {entry(`,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"l"`), map[string]string{"Idempotency-Key": "k"}, 422, "invalid"},
		"key too long":              {entry(`,"timestamp":"2026-03-02T09:00:00Z"`), map[string]string{"Idempotency-Key": strings.Repeat("k", 257)}, 422, "invalid"},
		"expired":                   {entry(`,"timestamp":"2001-01-01T00:00:00Z"`), nil, 200, ""},
		"fields missing":            {`{}`, nil, 422, "invalid"},
		"unknown field":             {entry(`,"colour":"red"`), nil, 422, "invalid"},
		"duplicate key":             {entry(`,"metadata":{"a":1,"a":2}`), nil, 422, "invalid"},
		"no JSON":                   {`{"user_id":`, nil, 400, "malformed_request"},
		"not an object":             {`[]`, nil, 400, "malformed_request"},
		"two objects":               {entry("") + entry(""), nil, 400, "malformed_request"},
		"empty":                     {"", map[string]string{"Content-Type": "application/json"}, 400, "malformed_request"},
		"blank":                     {" \n", nil, 400, "malformed_request"},
		"ndjson":                    {entry(""), map[string]string{"Content-Type": "application/x-ndjson"}, 415, "unsupported_media_type"},
		"256 KiB":                   {exact(audit.MaxEntryBytes), nil, 202, ""},
		"256 KiB with white space":  {" " + exact(audit.MaxEntryBytes) + "\n", nil, 202, ""},
		"256 KiB and a byte":        {exact(audit.MaxEntryBytes + 1), nil, 413, "too_large"},
		"512 KiB":                   {exact(512 << 10), nil, 413, "too_large"},
		"512 KiB, gzip":             {gzipped(exact(512 << 10)), map[string]string{"Content-Encoding": "gzip"}, 413, "too_large"},
		"somebody else's tenant_id": {entry(`,"tenant_id":"globex"`), nil, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.call("admin", "POST", "/logs", test.body, test.header).want(t, test.status, test.code)
		})
	}
	w.t = t
}

func TestIdempotencyKeyHeaderIsGivenOnceAndNotEmpty(t *testing.T) {
	w := newWorld(t)
	for _, values := range [][]string{{""}, {"a", "a"}} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", manifest.BasePath+"/logs", strings.NewReader(entry("")))
		r.Header = http.Header{"Authorization": {"Bearer admin"}, "X-Tenant-Id": {"acme"}, "Content-Type": {"application/json"}, "Idempotency-Key": values}
		w.send(r).want(t, 400, "malformed_request")
	}
}

// TestCallersAddressAndAgentAreTheDefaults: of a user that writes a single entry as itself.
func TestCallersAddressAndAgentAreTheDefaults(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ remote, agent, wantIP, wantAgent string }{
		{"198.51.100.7:443", "curl/8", "198.51.100.7", "curl/8"},
		{"198.51.100.7", "", "198.51.100.7", ""},
		{"[2001:db8::1%eth0]:1", "a", "2001:db8::1", "a"},
		{"[::ffff:198.51.100.7]:1", "a", "198.51.100.7", "a"},
		{"somewhere", "a", "", "a"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", manifest.BasePath+"/logs", strings.NewReader(entry("")))
		r.Header = http.Header{"Authorization": {"Bearer user"}, "X-Tenant-Id": {"acme"}, "Content-Type": {"application/json"},
			"User-Agent": {test.agent}, "X-Forwarded-For": {"203.0.113.99"}, "Forwarded": {"for=203.0.113.99"}, "X-Real-Ip": {"203.0.113.99"}}
		r.RemoteAddr = test.remote
		var accepted struct{ ID string }
		w.send(r).want(t, 202, "").decode(t, &accepted)
		w.processQueues()
		var stored struct {
			IPAddress string `json:"ip_address"`
			UserAgent string `json:"user_agent"`
		}
		w.call("admin", "GET", "/logs/"+accepted.ID, "", nil).want(t, 200, "").decode(t, &stored)
		if stored.IPAddress != test.wantIP {
			t.Errorf("%s: %s: got IP address %q, want %q", test.remote, test.agent, stored.IPAddress, test.wantIP)
		}
		if stored.UserAgent != test.wantAgent {
			t.Errorf("%s: %s: got user agent %q, want %q", test.remote, test.agent, stored.UserAgent, test.wantAgent)
		}
	}
}

// TestTheAddressOfABackendIsNoDefault: neither of a credential that writes for others, nor of a
// bulk.
func TestTheAddressOfABackendIsNoDefault(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ as, path string }{{"admin", "/logs"}, {"admin", "/logs/bulk"}, {"user", "/logs/bulk"}} {
		body := entry("")
		if test.path == "/logs/bulk" {
			body = "[" + body + "]"
		}
		w.call(test.as, "POST", test.path, body, map[string]string{"User-Agent": "backend/1"}).want(t, 202, "")
	}
	w.processQueues()
	var list struct {
		Items []struct {
			IPAddress string `json:"ip_address"`
			UserAgent string `json:"user_agent"`
		}
	}
	w.call("admin", "GET", "/logs", "", nil).want(t, 200, "").decode(t, &list)
	if got, want := len(list.Items), 3; got != want {
		t.Fatalf("got %d entries, want %d", got, want)
	}
	for i, item := range list.Items {
		if item.IPAddress != "" {
			t.Errorf("entry %d: got IP address %q, want none", i, item.IPAddress)
		}
		if item.UserAgent != "" {
			t.Errorf("entry %d: got user agent %q, want none", i, item.UserAgent)
		}
	}
}

// TestUsersWriteOnlyTheirOwnEntries: a bulk keeps what is the caller's own.
func TestUsersWriteOnlyTheirOwnEntries(t *testing.T) {
	w := newWorld(t)
	foreign := strings.Replace(entry(""), `"ann"`, `"bob"`, 1)
	p := w.call("user", "POST", "/logs", foreign, nil).want(t, 422, "invalid").problem(t)
	if got, want := p.Errors[0].Pointer, "/user_id"; got != want {
		t.Errorf("got a fault of %s, want %s", got, want)
	}
	var answer struct{ Accepted, Rejected int }
	w.call("user", "POST", "/logs/bulk", "["+entry("")+","+foreign+"]", nil).want(t, 207, "").decode(t, &answer)
	if answer.Accepted != 1 {
		t.Errorf("accepted %d entries, want 1", answer.Accepted)
	}
	if answer.Rejected != 1 {
		t.Errorf("rejected %d entries, want 1", answer.Rejected)
	}
}

// BenchmarkCreateLogs and BenchmarkDecode are the two sides of the figure to
// hold: the handler's CPU for each entry as a ratio to encoding/json's decoding
// of the same bytes.
func BenchmarkCreateLogs(b *testing.B) {
	for _, size := range []int{1, 100} {
		target, body := "/logs", kilobyteEntry(0)
		if size > 1 {
			target, body = "/logs/bulk", "["
			for i := range size {
				body += kilobyteEntry(i) + ","
			}
			body = strings.TrimSuffix(body, ",") + "]"
		}
		b.Run(fmt.Sprintf("entries=%d", size), func(b *testing.B) {
			w := newWorld(b)
			w.ingest.Standard = discard{}
			w.gate.Tenants = tenants.NewCache(w.db.Tenants(), time.Hour, time.Now)
			w.gate.Now = time.Now
			ctx := access.WithPrincipal(b.Context(), principals()["admin"]) // as behind the authorizer
			r := httptest.NewRequestWithContext(ctx, "POST", manifest.BasePath+target, http.NoBody)
			r.Header = http.Header{"X-Tenant-Id": {"acme"}, "Content-Type": {"application/json"}}
			reader := strings.NewReader(body)
			r.ContentLength = int64(len(body))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				r.Body = io.NopCloser(reader)
				answer := httptest.NewRecorder()
				w.handler.ServeHTTP(answer, r)
				if answer.Code != http.StatusAccepted {
					b.Fatalf("got %d %s, want %d", answer.Code, answer.Body, http.StatusAccepted)
				}
				w.logs.Reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/entry")
		})
		b.Run(fmt.Sprintf("decode=%d", size), func(b *testing.B) {
			text := []byte(body)
			for b.Loop() {
				if err := decodePlainly(text, size); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/entry")
		})
	}
}

type discard struct{}

func (discard) Send(context.Context, audit.TenantID, []string) error { return nil }

// plainEntry is an entry as a program would declare it for encoding/json.
type plainEntry struct {
	UserID         string         `json:"user_id"`
	SessionID      string         `json:"session_id"`
	RequestID      string         `json:"request_id"`
	Action         string         `json:"action"`
	ResourceType   string         `json:"resource_type"`
	ResourceID     string         `json:"resource_id"`
	Timestamp      time.Time      `json:"timestamp"`
	IPAddress      string         `json:"ip_address"`
	UserAgent      string         `json:"user_agent"`
	Before         map[string]any `json:"before_state"`
	After          map[string]any `json:"after_state"`
	Metadata       map[string]any `json:"metadata"`
	Severity       string         `json:"severity"`
	Message        string         `json:"message"`
	IdempotencyKey string         `json:"idempotency_key"`
}

func decodePlainly(text []byte, size int) error {
	if size == 1 {
		var e plainEntry
		return json.Unmarshal(text, &e)
	}
	var all []plainEntry
	return json.Unmarshal(text, &all)
}

func kilobyteEntry(i int) string {
	text := fmt.Sprintf(`{"user_id":"user-%d","session_id":"9f6c2b1e-session","request_id":"7d0f4f6e-request","action":"UPDATE","resource_type":"order","resource_id":"order-%d",`+
		`"timestamp":"2026-03-02T09:00:00.%03dZ","idempotency_key":"key-%d","ip_address":"198.51.100.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",`+
		`"before_state":{"status":"open","total":1299,"lines":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"address":{"city":"Berlin","zip":"10115"}},`+
		`"after_state":{"status":"paid","total":1299,"lines":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"address":{"city":"Berlin","zip":"10117"}},`+
		`"metadata":{"plan":"gold","region":"eu-central-1","latency_ms":12.5,"flags":["beta","eu"],"build":{"version":"4.17.2","commit":"0a1b2c3d"}},`+
		`"severity":"INFO","message":"Order %d was paid by card and moved to fulfilment`, i%10, i, i%1000, i, i)
	return text + strings.Repeat(".", 1024-len(text)-2) + `"}`
}
