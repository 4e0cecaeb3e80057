package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// How long send waits at its end for what it sent, and for entries whose identity was there
// before: their messages leave no trace when they are handled.
const (
	checkTimeout  = 30 * time.Second
	repeatTimeout = 5 * time.Second
	checkPause    = 200 * time.Millisecond
)

// These bound the memory for what was accepted, to about 100 MB. Entries beyond maxTexts bytes have
// no text.
const (
	maxChecked = 250_000
	maxTexts   = 64 << 20
)

// maxSamples is how many of the last requests are waited for, by one entry each.
const maxSamples = 64

// sent is what the service accepted and may still put into quarantine.
type sent struct {
	entries map[audit.EntryID]sentEntry
	samples []audit.EntryID
	left    int             // entries beyond maxChecked
	texts   int             // bytes of the texts
	unknown map[string]bool // quarantine items that may have one of the entries
}

// sentEntry is where an entry came from, and its content.
type sentEntry struct {
	place  string
	digest audit.Digest
	text   []byte // nil: it was left out
}

// isIn reports whether the entry of a quarantine item, which has a digest, is this one. Values that the service removed or
// masked in it count as equal: own values are put in their places. Without them it cannot be known,
// and then known is false.
func (e *sentEntry) isIn(item []byte, digest audit.Digest) (same, known bool) {
	if digest == e.digest {
		return true, true
	}
	var hidden struct{ Removed, Masked []jsontext.Pointer }
	if err := json.Unmarshal(item, &hidden); err != nil || len(hidden.Removed)+len(hidden.Masked) == 0 {
		return false, true
	}
	if e.text == nil {
		return false, false
	}
	_, digest = digestOf(withValuesOf(item, e.text, append(hidden.Removed, hidden.Masked...)))
	return digest == e.digest, true
}

// withValuesOf returns a JSON text with the values at the places as they are in another. Places that
// one of them lacks are left alone.
func withValuesOf(text, other []byte, places []jsontext.Pointer) []byte {
	to, from := decodeExactly(text), decodeExactly(other)
	for _, place := range places {
		if value, found := valueAt(from, place); found {
			setValueAt(to, place, value)
		}
	}
	patched, err := json.Marshal(to)
	if err != nil {
		return nil // which is the content of no entry
	}
	return patched
}

// decodeExactly decodes a JSON text with the spelling of its numbers, nil if it is none.
func decodeExactly(text []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil
	}
	return value
}

func valueAt(value any, place jsontext.Pointer) (any, bool) {
	for token := range place.Tokens() {
		found := false
		switch parent := value.(type) {
		case map[string]any:
			value, found = parent[token]
		case []any:
			var i int
			if i, found = indexIn(parent, token); found {
				value = parent[i]
			}
		}
		if !found {
			return nil, false
		}
	}
	return value, true
}

func setValueAt(in any, place jsontext.Pointer, value any) {
	parent, _ := valueAt(in, place.Parent())
	switch parent := parent.(type) {
	case map[string]any:
		if _, found := parent[place.LastToken()]; found {
			parent[place.LastToken()] = value
		}
	case []any:
		if i, found := indexIn(parent, place.LastToken()); found {
			parent[i] = value
		}
	}
}

func indexIn(list []any, token string) (i int, found bool) {
	i, err := strconv.Atoi(token)
	return i, err == nil && i >= 0 && i < len(list)
}

// digestOf returns the id of an entry's text, if it has one, and the digest that the service also
// takes. It returns zero values for what is no entry.
func digestOf(text []byte) (audit.EntryID, audit.Digest) {
	submitted, invalid := entryjson.ParseSubmitted(text)
	if invalid != nil {
		return audit.EntryID{}, audit.Digest{}
	}
	if !submitted.HasTimestamp {
		submitted.Timestamp = submitted.ID.Time()
	}
	return submitted.ID, submitted.DigestOf()
}

// add keeps the accepted entries of a request.
func (s *sent) add(items []item, answer client.Bulk) {
	var last audit.EntryID
	for _, outcome := range answer.Items {
		id, err := audit.ParseEntryID(outcome.ID)
		if err != nil || outcome.Status != ingest.Accepted {
			continue
		}
		last = id
		if len(s.entries) == maxChecked {
			s.left++
			continue
		}
		if s.entries == nil {
			s.entries = map[audit.EntryID]sentEntry{}
		}
		it := items[outcome.Index]
		_, digest := digestOf(it.text)
		entry := sentEntry{place: it.place, digest: digest}
		if s.texts+len(it.text) <= maxTexts {
			s.texts += len(it.text)
			entry.text = bytes.Clone(it.text)
		}
		s.entries[id] = entry
	}
	if !last.IsZero() {
		s.samples = append(s.samples[max(0, len(s.samples)-maxSamples+1):], last)
	}
}

// markUnknown keeps that an item may have one of the entries.
func (s *sent) markUnknown(item string) {
	if s.unknown == nil {
		s.unknown = map[string]bool{}
	}
	s.unknown[item] = true
}

// checkConflicts waits until what was sent is stored, and reports entries whose identity another
// entry had. These are in quarantine.
func (s *sending) checkConflicts(ctx context.Context, started time.Time) {
	if len(s.sent.samples) == 0 {
		return
	}
	found := map[string]bool{}
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := s.reportConflicts(bounded, found) // first, because it tells whether the credential may ask
	if err == nil {
		err = s.awaitStored(bounded, started, found)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, context.DeadlineExceeded):
		s.report("ocelot: conflicts of identity are unchecked: the service has not stored all entries within %d seconds", int(checkTimeout.Seconds()))
	case err != nil:
		s.report("ocelot: conflicts of identity are unchecked, which needs quarantine:read and logs:read: %s", err)
	case s.sent.left > 0:
		s.report("ocelot: conflicts of identity are unchecked for the last %d entries", s.sent.left)
	}
	if n := len(s.sent.unknown); n > 0 {
		s.report("ocelot: %d entries in quarantine may be of this run; values in them were removed or masked, so they cannot be compared", n)
	}
}

// awaitStored waits for the samples, and looks for conflicts then.
func (s *sending) awaitStored(ctx context.Context, started time.Time, found map[string]bool) error {
	fresh := false // an entry of this run was stored, and the service handles messages about in order
	for _, id := range s.sent.samples {
		received, err := s.received(ctx, id)
		if err != nil {
			return err
		}
		fresh = fresh || received.After(started) // if this machine's clock is ahead, it waits in vain
	}
	end := time.Now().Add(repeatTimeout)
	if fresh {
		end = time.Now().Add(checkPause) // a message's conflicts are noted right after its entries are stored
	}
	for {
		if err := s.reportConflicts(ctx, found); err != nil || len(found) > 0 || time.Now().After(end) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// received returns when the service received the entry, once it is stored.
func (s *sending) received(ctx context.Context, id audit.EntryID) (time.Time, error) {
	for {
		text, err := s.client.Entry(ctx, id)
		var problem *client.Problem
		switch {
		case err == nil:
			var entry struct {
				ReceivedAt time.Time `json:"received_at"`
			}
			err := json.Unmarshal(text, &entry)
			return entry.ReceivedAt, err
		case !errors.As(err, &problem) || problem.Status != http.StatusNotFound:
			return time.Time{}, err
		}
		if err := pause(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(checkPause):
		return nil
	}
}

// reportConflicts reports those of the sent entries that are in quarantine because of their
// identity, each once.
func (s *sending) reportConflicts(ctx context.Context, found map[string]bool) error {
	for cursor := ""; ; {
		page, err := s.client.Quarantine(ctx, cursor)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			// An item of an earlier run has other content, unless this run sent it again.
			id, digest := digestOf(item.Entry)
			entry, sent := s.sent.entries[id]
			if !sent || found[item.ID] || item.Code != audit.CodeIdentityConflict {
				continue
			}
			if same, known := entry.isIn(item.Entry, digest); !same {
				if !known {
					s.sent.markUnknown(item.ID)
				}
				continue
			}
			found[item.ID], s.failed = true, true
			s.report("%s: in quarantine: %s", entry.place, printable(fmt.Sprintf("%s (entry %s)", item.Reason, id)))
		}
		if page.Next == nil || *page.Next == "" {
			return nil
		}
		cursor = *page.Next
	}
}
