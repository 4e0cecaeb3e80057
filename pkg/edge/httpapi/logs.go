package httpapi

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// CreateLog answers POST /logs: it accepts one entry.
func CreateLog(gate *Gate, s *ingest.Service, limiter *quota.Limiter) http.Handler {
	in := &bodies{media: []string{MediaJSON}, wire: maxEntryBody, unpacked: maxEntryBody}
	return gate.endpoint("create-log", func(req *request) (*response, error) {
		body, _, err := in.read(req)
		if err != nil {
			return nil, err
		}
		defer in.release(body)
		if err := req.takeQuota(limiter, 1); err != nil {
			return nil, err
		}
		outcome, err := submitOne(req, s, body.body.Bytes())
		if err != nil {
			return nil, err
		}
		if outcome.Status == ingest.Rejected {
			return nil, refusedOutcome(&outcome)
		}
		w := writer{b: make([]byte, 0, 80)}
		w.open('{')
		appendOutcome(&w, &outcome)
		w.close('}')
		if outcome.Status != ingest.Accepted {
			return jsonResponse(http.StatusOK, &w), nil
		}
		return jsonResponse(http.StatusAccepted, &w), nil
	})
}

// IdempotencyKeyHeader gives an entry its idempotency key, as the member idempotency_key does.
const IdempotencyKeyHeader = "Idempotency-Key"

func submitOne(req *request, s *ingest.Service, text []byte) (ingest.Outcome, error) {
	keys := req.Header[IdempotencyKeyHeader]
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return ingest.Outcome{}, errEmptyBody()
	case len(keys) > 1:
		return ingest.Outcome{}, badHeader(IdempotencyKeyHeader, "repeated", "must be given once")
	case len(keys) == 1 && keys[0] == "":
		return ingest.Outcome{}, badHeader(IdempotencyKeyHeader, "empty", "must not be empty")
	case len(keys) == 1:
		return s.SubmitKeyed(req.Context(), req.tenant, req.originOfOne(), text, keys[0])
	}
	outcomes, err := s.Submit(req.Context(), req.tenant, req.originOfOne(), [][]byte{text})
	if err != nil {
		return ingest.Outcome{}, err
	}
	return outcomes[0], nil
}

func errEmptyBody() error { return ProblemMalformed.problem("The body is empty.") }

// refusedOutcome returns the error of an entry that was sent alone.
func refusedOutcome(o *ingest.Outcome) error {
	if o.Unavailable != nil {
		return o.Unavailable
	}
	return refused(o.Err)
}

// refused returns the problem of an entry that was sent alone. Text that is not JSON is a fault
// of the whole body.
func refused(err *audit.ValidationError) *problem {
	p := problemOfEntry(err)
	if err.Fields[0].Code == "invalid_json" {
		p.kind = ProblemMalformed
	}
	return p
}

// problemOfEntry returns the problem of an entry, sent alone or with others.
func problemOfEntry(err *audit.ValidationError) *problem {
	p := invalid(err, "The entry")
	if err.Fields[0].Code == "too_large" {
		p.kind = ProblemTooLarge
	}
	return p
}

// CreateLogsBulk answers POST /logs/bulk: it accepts up to audit.MaxBulkEntries
// entries, each on its own. All of them count for the quotas, before any is looked at.
func CreateLogsBulk(gate *Gate, s *ingest.Service, limiter *quota.Limiter) http.Handler {
	in := &bodies{media: []string{MediaJSON, MediaNDJSON, MediaJSONL}, wire: audit.MaxBulkWire, unpacked: audit.MaxBulkUnpacked}
	return gate.endpoint("create-logs-bulk", func(req *request) (*response, error) {
		body, media, err := in.read(req)
		if err != nil {
			return nil, err
		}
		defer in.release(body)
		split := body.lines
		if media == MediaJSON {
			split = body.elements
		}
		texts, err := split()
		if err != nil {
			return nil, err
		}
		if len(texts) == 0 {
			return nil, audit.Invalid("", "too_few", "must hold at least one entry")
		}
		if err := req.takeQuota(limiter, len(texts)); err != nil {
			return nil, err
		}
		outcomes, err := s.Submit(req.Context(), req.tenant, req.origin(), texts)
		if err != nil {
			return nil, err
		}
		gate.logUnavailable(req, outcomes)
		return bulkResponse(outcomes, req.id), nil
	})
}

// logUnavailable logs why entries of a bulk could not be accepted for now: their problems do not say
// it.
func (g *Gate) logUnavailable(req *request, outcomes []ingest.Outcome) {
	var first error
	entries := 0
	for i := range outcomes {
		if err := outcomes[i].Unavailable; err != nil {
			if entries++; first == nil {
				first = err
			}
		}
	}
	if first != nil {
		g.Log.LogAttrs(req.Context(), slog.LevelError, "entries unavailable", slog.Int("entries", entries),
			slog.String("error", first.Error()), slog.String("request_id", req.id), slog.String("tenant", string(req.tenant.ID)))
	}
}

// bulkResponse is 202 if every entry was accepted, and 207 otherwise.
func bulkResponse(outcomes []ingest.Outcome, requestID string) *response {
	counts := countOutcomes(outcomes)
	w := writer{b: make([]byte, 0, 128+88*len(outcomes)+256*counts[ingest.Rejected])}
	w.open('{')
	for _, status := range []ingest.OutcomeStatus{ingest.Accepted, ingest.Duplicate, ingest.Filtered, ingest.Expired, ingest.Rejected} {
		w.integer(string(status), int64(counts[status]))
	}
	w.name("items")
	w.open('[')
	for i := range outcomes {
		w.open('{')
		w.integer("index", int64(i))
		appendOutcome(&w, &outcomes[i])
		if outcomes[i].Status == ingest.Rejected {
			w.name("error")
			problemOfOutcome(&outcomes[i]).append(&w, requestID)
		}
		w.close('}')
	}
	w.close(']')
	w.close('}')
	if counts[ingest.Accepted] == len(outcomes) {
		return jsonResponse(http.StatusAccepted, &w)
	}
	return jsonResponse(http.StatusMultiStatus, &w)
}

func problemOfOutcome(o *ingest.Outcome) *problem {
	if o.Unavailable != nil {
		return problemOf(o.Unavailable, access.LogsWrite)
	}
	return problemOfEntry(o.Err)
}

func countOutcomes(outcomes []ingest.Outcome) map[ingest.OutcomeStatus]int {
	counts := make(map[ingest.OutcomeStatus]int, 5)
	for i := range outcomes {
		counts[outcomes[i].Status]++
	}
	return counts
}

// appendOutcome writes the members id (if there is one) and status.
func appendOutcome(w *writer, o *ingest.Outcome) {
	if !o.ID.IsZero() {
		w.name("id")
		w.b = append(w.b, '"')
		w.b, _ = o.ID.AppendText(w.b) // never fails
		w.b = append(w.b, '"')
	}
	w.word("status", string(o.Status))
}

// origin is the client's credential.
func (req *request) origin() ingest.Origin {
	return ingest.Origin{SubmittedBy: req.principal.SubmittedBy(), Owner: req.scope.Owner}
}

// originOfOne is the origin of a single entry. A user who writes as itself sends from its own
// address. Forwarding headers are a client's claim and are not read; behind API Gateway RemoteAddr
// is the gateway's source address.
func (req *request) originOfOne() ingest.Origin {
	origin := req.origin()
	if origin.Owner != "" {
		agent := req.UserAgent()
		if len(agent) > audit.MaxUserAgent {
			agent = agent[:audit.MaxUserAgent]
		}
		origin.IPAddress, origin.UserAgent = remoteIP(req.RemoteAddr), strings.ToValidUTF8(agent, "")
	}
	return origin
}

// remoteIP reads "address" or "address:port". It returns the zero Addr for anything else.
func remoteIP(remote string) netip.Addr {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	if ip, err := netip.ParseAddr(remote); err == nil {
		return ip.Unmap().WithZone("")
	}
	return netip.Addr{}
}

// ListLogs answers GET /logs: one page of entries by filter and full text.
func ListLogs(gate *Gate, s *search.Service) http.Handler {
	return gate.endpoint("list-logs", func(req *request) (*response, error) {
		list, err := s.Find(req.Context(), req.tenant, req.scope, req.params)
		if err != nil {
			return nil, err
		}
		return listResponse(req, list), nil
	})
}

// SearchLogs answers POST /logs/search: the same list, with its parameters as a JSON object, and with
// encrypted values for who may see them or find entries by them.
func SearchLogs(gate *Gate, s *search.Service, revealer *protect.Revealer, matcher *protect.Matcher) http.Handler {
	in := &bodies{media: []string{MediaJSON}, wire: maxSearchBody, unpacked: maxSearchBody}
	m := &matching{Matcher: matcher, limiter: quota.NewLimiter(matchLimits, nil, gate.Now, gate.Log)}
	return gate.endpoint("search-logs", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		matches, err := req.matchesIn(body)
		if err != nil {
			return nil, err
		}
		reveal, err := req.revealByBody(body)
		if err != nil {
			return nil, err
		}
		list, err := m.find(req, s, body.members, matches)
		if err != nil {
			return nil, err
		}
		if !reveal.wanted {
			return listResponse(req, list), nil
		}
		revealed, err := req.reveal(revealer, reveal.reason, list.Entries)
		if err != nil {
			return nil, err
		}
		return pageResponse(&list, func(w *writer, i int) { appendRevealed(w, &req.tenant, &revealed[i]) }), nil
	})
}

// listResponse is one page of entries with masks.
func listResponse(req *request, list search.List) *response {
	return pageResponse(&list, func(w *writer, i int) { appendEntry(w, &req.tenant, &list.Entries[i]) })
}

// pageResponse is one page. item writes the entry with an index.
func pageResponse(list *search.List, item func(w *writer, i int)) *response {
	w := writer{b: make([]byte, 0, 256+1024*len(list.Entries))}
	w.open('{')
	appendItems(&w, len(list.Entries), item)
	w.cursor("next", list.Next)
	w.cursor("prev", list.Prev)
	w.optionalTime("searchable_from", list.SearchableFrom)
	w.close('}')
	answer := jsonResponse(http.StatusOK, &w)
	if list.Degraded {
		answer.set(DegradedHeader, "search")
	}
	return answer
}

// FeedLogs answers GET /logs/feed: entries in the order of their arrival.
func FeedLogs(gate *Gate, feed *arrival.Feed) http.Handler {
	return gate.endpoint("feed-logs", func(req *request) (*response, error) {
		page, err := feed.Read(req.Context(), req.tenant, req.scope, req.params)
		if err != nil {
			return nil, err
		}
		w := writer{b: make([]byte, 0, 256+1024*len(page.Entries))}
		w.open('{')
		appendItems(&w, len(page.Entries), func(w *writer, i int) { appendEntry(w, &req.tenant, &page.Entries[i]) })
		w.cursor("next", page.Next)
		w.boolean("more", page.More)
		w.close('}')
		return jsonResponse(http.StatusOK, &w), nil
	})
}

// appendItems writes the member items. item writes the one with an index.
func appendItems(w *writer, n int, item func(w *writer, i int)) {
	w.name("items")
	w.open('[')
	for i := range n {
		w.next()
		item(w, i)
	}
	w.close(']')
}

// appendEntry writes an entry with its end by the tenant's current settings.
func appendEntry(w *writer, tenant *audit.Tenant, e *audit.Entry) {
	w.b = entryjson.AppendPublic(w.b, e, tenant.Settings.ExpiryOf(e))
}

// SearchableFromHeader has, on a file of entries, what searchable_from is in a list.
const SearchableFromHeader = "Ocelot-Searchable-From"

// DegradedHeader names the engine that was unavailable while another one answered.
const DegradedHeader = "Ocelot-Degraded"

// GetLog answers GET /logs/{id}: one entry and its status.
func GetLog(gate *Gate, s *search.Service, revealer *protect.Revealer) http.Handler {
	return gate.endpoint("get-log", func(req *request) (*response, error) {
		id, err := audit.ParseEntryID(req.PathValue("id"))
		if err != nil { // no entry has such an id
			if manifest.StreamPath == "/logs/"+req.PathValue("id") {
				return nil, ProblemNotFound.problem(streamNeedsWebSocket)
			}
			return nil, ProblemNotFound.problem("There is no entry with this id; an id is a UUID of version 7.")
		}
		reveal, err := req.revealByQuery()
		if err != nil {
			return nil, err
		}
		found, err := s.Entry(req.Context(), req.tenant, req.scope, id)
		if err != nil {
			return nil, err
		}
		w := writer{b: make([]byte, 0, 2048)}
		if reveal.wanted {
			revealed, err := req.reveal(revealer, reveal.reason, []audit.Entry{found.Entry})
			if err != nil {
				return nil, err
			}
			appendRevealed(&w, &req.tenant, &revealed[0])
		} else {
			appendEntry(&w, &req.tenant, &found.Entry)
		}
		w.b = w.b[:len(w.b)-1] // reopens the object
		w.word("status", string(found.Status))
		w.close('}')
		return jsonResponse(http.StatusOK, &w), nil
	})
}

// GetStats answers GET /logs/stats: counts by field and over time.
func GetStats(gate *Gate, s *search.Service) http.Handler {
	return gate.endpoint("get-stats", func(req *request) (*response, error) {
		stats, err := s.Stats(req.Context(), req.tenant, req.scope, req.params)
		if err != nil {
			return nil, err
		}
		w := writer{b: make([]byte, 0, 256+96*len(stats.Groups)+64*len(stats.Histogram))}
		w.open('{')
		w.integer("total", stats.Total)
		appendGroups(&w, stats.Groups, stats.Request.GroupBy)
		appendHistogram(&w, stats.Histogram)
		w.integer("distinct_users", stats.DistinctUsers)
		w.optionalTime("searchable_from", stats.SearchableFrom)
		w.close('}')
		if len(w.b) > audit.MaxPageBytes { // most characters of the values need an escape
			return nil, audit.Invalid("?"+search.ParamTop, "too_large", "must be smaller: the answer would have more than %s", bytesText(audit.MaxPageBytes))
		}
		return jsonResponse(http.StatusOK, &w), nil
	})
}

func appendGroups(w *writer, groups []audit.Group, by []audit.Field) {
	w.name("groups")
	w.open('[')
	for i := range groups {
		w.open('{')
		for j, value := range groups[i].Values {
			w.quoted(string(by[j]))
			w.b = append(w.b, ':')
			w.quoted(value)
		}
		w.integer("count", groups[i].Count)
		if slices.ContainsFunc(groups[i].Values, audit.IsShortened) {
			w.boolean("shortened", true)
		}
		w.close('}')
	}
	w.close(']')
}

func appendHistogram(w *writer, histogram []audit.Bucket) {
	w.name("histogram")
	w.open('[')
	for i := range histogram {
		w.open('{')
		w.localTime("start", histogram[i].Start)
		w.integer("count", histogram[i].Count)
		w.close('}')
	}
	w.close(']')
}

// etag is the entity tag of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
