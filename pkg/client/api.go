package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// Bulk is the answer to a bulk request.
type Bulk struct {
	Accepted  int        `json:"accepted"`
	Duplicate int        `json:"duplicate"`
	Filtered  int        `json:"filtered"`
	Expired   int        `json:"expired"`
	Rejected  int        `json:"rejected"`
	Items     []BulkItem `json:"items"`
}

// BulkItem is the result of one entry.
type BulkItem struct {
	Index  int                  `json:"index"`
	ID     string               `json:"id"`
	Status ingest.OutcomeStatus `json:"status"`
	Error  *Problem             `json:"error"`
}

// Bulk sends entries in one request. Each is the JSON text of an entry without line breaks.
// Bulk retries the whole request if its result is unknown, so every entry should have an id or
// an idempotency key. It sends entries again that the service rejected for now, for example because
// it could not get a key. The answer has the last result of every entry. If the service rejects the
// whole request, the error is a *Problem.
func (c *Client) Bulk(ctx context.Context, entries [][]byte) (Bulk, error) {
	answer, err := c.bulk(ctx, entries)
	var wait retries
	for err == nil && wait.failures < c.config.Attempts-1 {
		places, problem := answer.rejectedForNow()
		if problem == nil {
			break
		}
		pause, _ := wait.next(problem, c.config.Jitter)
		if err := c.config.Sleep(ctx, pause); err != nil {
			return Bulk{}, fmt.Errorf("%d entries of a bulk were rejected for now: %s: %w", len(places), problem.Reason(), err)
		}
		err = c.bulkAgain(ctx, entries, places, &answer)
	}
	if err != nil {
		return Bulk{}, err
	}
	return answer, nil
}

// rejectedForNow returns the places of the entries that a later request can store, and the problem
// of the first one. The problem is nil if there is none.
func (b *Bulk) rejectedForNow() (places []int, first *Problem) {
	for i := range b.Items {
		problem := b.Items[i].Error
		if b.Items[i].Status != ingest.Rejected || problem == nil || !IsTransient(problem) {
			continue
		}
		if first == nil {
			first = problem
		}
		places = append(places, i)
	}
	return places, first
}

// bulkAgain sends the entries at these places, and puts their results into the answer.
func (c *Client) bulkAgain(ctx context.Context, entries [][]byte, places []int, answer *Bulk) error {
	some := make([][]byte, len(places))
	for i, place := range places {
		some[i] = entries[place]
	}
	later, err := c.bulk(ctx, some)
	if err != nil {
		return err
	}
	for i, place := range places {
		result := BulkItem{ID: answer.Items[place].ID, Status: ingest.Accepted}
		if len(later.Items) > 0 {
			result = later.Items[i]
		}
		result.Index = place
		answer.Items[place] = result
	}
	answer.Accepted += later.Accepted
	answer.Duplicate += later.Duplicate
	answer.Filtered += later.Filtered
	answer.Expired += later.Expired
	answer.Rejected += later.Rejected - len(places)
	return nil
}

// bulk sends entries in one request, which it repeats while its result is unknown.
func (c *Client) bulk(ctx context.Context, entries [][]byte) (Bulk, error) {
	size := len(entries)
	for i, entry := range entries {
		if bytes.IndexByte(entry, '\n') >= 0 {
			return Bulk{}, fmt.Errorf("entry %d of the bulk has a line break", i)
		}
		size += len(entry)
	}
	if len(entries) > audit.MaxBulkEntries || size > audit.MaxBulkUnpacked {
		return Bulk{}, fmt.Errorf("a bulk of %d entries and %d bytes: %w", len(entries), size, audit.ErrTooLarge)
	}
	packed := c.zstd.EncodeAll(append(bytes.Join(entries, []byte("\n")), '\n'), nil)
	if len(packed) > audit.MaxBulkWire {
		return Bulk{}, fmt.Errorf("a bulk of %d bytes on the wire: %w", len(packed), audit.ErrTooLarge)
	}
	body, err := c.do(ctx, apiRequest{method: http.MethodPost, path: "logs/bulk", body: packed, header: http.Header{
		"Content-Type": {"application/x-ndjson"}, "Content-Encoding": {"zstd"},
	}})
	if err != nil {
		return Bulk{}, err
	}
	var answer Bulk
	if err := decode("bulk answer", body, &answer); err != nil {
		return Bulk{}, err
	}
	return answer, answer.check(len(entries))
}

// check returns an error if the answer does not have a result for every entry.
func (b *Bulk) check(sent int) error {
	if len(b.Items) == 0 && b.Accepted == sent {
		return nil // every entry was accepted
	}
	counted := map[ingest.OutcomeStatus]int{}
	for i, item := range b.Items {
		if item.Index != i {
			return fmt.Errorf("the service's bulk answer has item %d at place %d", item.Index, i)
		}
		counted[item.Status]++
	}
	if len(b.Items) != sent || counted[ingest.Accepted] != b.Accepted || counted[ingest.Duplicate] != b.Duplicate ||
		counted[ingest.Filtered] != b.Filtered || counted[ingest.Expired] != b.Expired || counted[ingest.Rejected] != b.Rejected ||
		b.Accepted+b.Duplicate+b.Filtered+b.Expired+b.Rejected != sent {
		return fmt.Errorf("the service's bulk answer does not account for each of the %d entries sent", sent)
	}
	return nil
}

// Page is one page of a list. Its items are the texts of entries as the service spells them.
type Page struct {
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
	Prev  *string           `json:"prev"`
}

// Search returns one page of GET /logs; params are its query parameters.
func (c *Client) Search(ctx context.Context, params url.Values) (Page, error) {
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs", query: params})
	if err != nil {
		return Page{}, err
	}
	var page Page
	return page, decode("list", body, &page)
}

// SearchBy returns one page of POST /logs/search; members is its body.
func (c *Client) SearchBy(ctx context.Context, members map[string]any) (Page, error) {
	request, err := json.Marshal(members)
	if err != nil {
		return Page{}, fmt.Errorf("encode the search: %w", err)
	}
	body, err := c.do(ctx, apiRequest{
		method: http.MethodPost, path: "logs/search", body: request, header: http.Header{"Content-Type": {"application/json"}},
	})
	if err != nil {
		return Page{}, err
	}
	var page Page
	return page, decode("list", body, &page)
}

// QuarantinePage is one page of the quarantine.
type QuarantinePage struct {
	Items []QuarantineItem `json:"items"`
	Next  *string          `json:"next"`
}

// QuarantineItem is an entry that a step had to refuse, and why.
type QuarantineItem struct {
	ID     string          `json:"id"`
	Code   string          `json:"code"`
	Reason string          `json:"reason"`
	Entry  json.RawMessage `json:"entry"`
}

// Quarantine returns one page of GET /logs/quarantine, the first one if the cursor is "".
func (c *Client) Quarantine(ctx context.Context, cursor string) (QuarantinePage, error) {
	params := url.Values{"limit": {strconv.Itoa(audit.MaxPageLimit)}}
	if cursor != "" {
		params.Set("cursor", cursor)
	}
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/quarantine", query: params})
	if err != nil {
		return QuarantinePage{}, err
	}
	var page QuarantinePage
	return page, decode("quarantine", body, &page)
}

// FeedPage is one page of the feed. Next is the cursor after it, which is always set. More says
// that the log continues there.
type FeedPage struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
	More  bool              `json:"more"`
}

// Feed returns one page of GET /logs/feed; params are its query parameters.
func (c *Client) Feed(ctx context.Context, params url.Values) (FeedPage, error) {
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/feed", query: params})
	if err != nil {
		return FeedPage{}, err
	}
	var page FeedPage
	if err := decode("feed", body, &page); err != nil {
		return FeedPage{}, err
	}
	if page.Next == "" {
		return FeedPage{}, errors.New("the service's feed has no cursor")
	}
	return page, nil
}

// Stats are the counts of GET /logs/stats.
type Stats struct {
	Total         int64    `json:"total"`
	Groups        []Group  `json:"groups"`
	Histogram     []Bucket `json:"histogram"`
	DistinctUsers int64    `json:"distinct_users"`
	// Text is the original answer.
	Text json.RawMessage `json:"-"`
}

// Group is the number of entries with these values, by the fields' names.
type Group struct {
	Values map[string]string
	Count  int64
	// Shortened is true if a value was too long for the answer.
	Shortened bool
}

// UnmarshalJSON reads the flat form of the API: {"action":"CREATE","count":3}.
func (g *Group) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	if err := json.Unmarshal(members["count"], &g.Count); err != nil {
		return fmt.Errorf("count of a group: %w", err)
	}
	if text := members["shortened"]; text != nil {
		if err := json.Unmarshal(text, &g.Shortened); err != nil {
			return fmt.Errorf("shortened of a group: %w", err)
		}
	}
	delete(members, "count")
	delete(members, "shortened")
	g.Values = make(map[string]string, len(members))
	for field, value := range members {
		var s string
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("value of a group: %w", err)
		}
		g.Values[field] = s
	}
	return nil
}

// Bucket is one interval of a histogram.
type Bucket struct {
	Start string `json:"start"`
	Count int64  `json:"count"`
}

// Stats returns GET /logs/stats; params are its query parameters.
func (c *Client) Stats(ctx context.Context, params url.Values) (Stats, error) {
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/stats", query: params})
	if err != nil {
		return Stats{}, err
	}
	stats := Stats{Text: body}
	return stats, decode("statistics", body, &stats)
}

// Entry returns the text of GET /logs/{id}: the entry and its "status". If the entry is not
// stored yet, the error is a *Problem with status 404 and RetryAfter.
func (c *Client) Entry(ctx context.Context, id audit.EntryID) (json.RawMessage, error) {
	return c.entry(ctx, id, nil)
}

// Reveal is Entry with the encrypted values in plain. The service records who asked, and the reason.
func (c *Client) Reveal(ctx context.Context, id audit.EntryID, reason string) (json.RawMessage, error) {
	return c.entry(ctx, id, url.Values{"reveal": {"true"}, "reason": {reason}})
}

func (c *Client) entry(ctx context.Context, id audit.EntryID, query url.Values) (json.RawMessage, error) {
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/" + id.String(), query: query})
	if err != nil {
		return nil, err
	}
	var text json.RawMessage
	return text, decode("entry", body, &text)
}

// Change sends one request that changes something, and returns the text of its answer. It does
// not try again: the service may have done it before its answer was lost. Path is relative to
// the base path, and escaped. Body is sent as JSON unless it is nil.
func (c *Client) Change(ctx context.Context, method, path string, header http.Header, body any) (json.RawMessage, error) {
	r := apiRequest{method: method, path: path, header: http.Header{"Content-Type": {"application/json"}}}
	maps.Copy(r.header, header)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		r.body = text
	} else {
		r.header.Del("Content-Type")
	}
	answer, err := c.once(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, nil
}

// Delete sends a DELETE once and returns the answer. Path is relative to the base path, and escaped.
func (c *Client) Delete(ctx context.Context, path string, params url.Values) (json.RawMessage, error) {
	answer, err := c.once(ctx, apiRequest{method: http.MethodDelete, path: path, query: params})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", http.MethodDelete, path, err)
	}
	return answer, nil
}

// Read returns the text of a GET. Path is relative to the base path, and escaped.
func (c *Client) Read(ctx context.Context, path string, params url.Values) (json.RawMessage, error) {
	return c.do(ctx, apiRequest{method: http.MethodGet, path: path, query: params})
}
