package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Subscription says what a stream brings.
type Subscription struct {
	// Filter has the filter parameters of GET /logs; none chooses every entry.
	Filter url.Values
	// After is the cursor to go on from; "" begins with what is stored from now on.
	After string
}

// EventKind says what an Event tells.
type EventKind string

// The kinds of events.
const (
	// StreamSubscribed tells that the stream runs, at first or again after a cut.
	StreamSubscribed EventKind = "subscribed"
	// StreamEntries brings entries, in the order of the stream. Without any it says
	// only that the cursor has moved past what the filter does not choose.
	StreamEntries EventKind = "entries"
	// StreamLagged tells that the service left entries out, because this client was
	// too far behind, and went on live. A subscription after the event's cursor
	// brings them.
	StreamLagged EventKind = "lagged"
	// StreamCut tells that there is no connection, and that one is tried after the pause.
	StreamCut EventKind = "cut"
)

// Event is what a stream tells.
type Event struct {
	Kind EventKind
	// Entries are the texts of entries as the service spells them.
	Entries []json.RawMessage
	// Cursor is where to go on from after this event; "" before there is one.
	Cursor string
	// Err and Pause are of StreamCut: why, and how long until the next try.
	Err   error
	Pause time.Duration
}

// ErrCursorExpired says that the stream is not kept as far back as a cursor
// reaches. What came after it can be searched.
var ErrCursorExpired = errors.New("the cursor is older than what the stream keeps")

// Stream follows the live stream until ctx ends, handle returns an error, which
// it then returns, or the service refuses: with a *Problem, or ErrCursorExpired.
// After a cut it connects again and goes on where it was, without a gap; entries
// that come twice, because a part of the service was killed, are handed on once.
// Only the first connection is given up after Config.Attempts tries.
//
// handle is called for one event at a time, and nothing is read meanwhile. An
// entry that is too long for a frame is read whole; where the caller may not read
// it, it comes as the service sent it and names in "omitted" what it lacks.
func (c *Client) Stream(ctx context.Context, s Subscription, handle func(Event) error) error {
	f := &follower{Client: c, filter: s.Filter, cursor: s.After, handle: handle, seen: newMemory(maxSeen)}
	var wait retries
	for attempt := 1; ; attempt++ {
		began := time.Now()
		f.subscribed, f.progress = false, false
		err := f.connection(ctx)
		var stopped *stoppedError
		switch {
		case errors.As(err, &stopped):
			return stopped.err
		case ctx.Err() != nil:
			return fmt.Errorf("stream: %w", context.Cause(ctx))
		case f.progress || f.subscribed && time.Since(began) > maxPause:
			wait = retries{}
		}
		pause, again := wait.next(passing(err), c.config.Jitter)
		if !again {
			return fmt.Errorf("stream: %w", err)
		}
		if !f.begun && attempt == c.config.Attempts {
			return fmt.Errorf("stream, given up after %d attempts: %w", attempt, err)
		}
		if err := handle(Event{Kind: StreamCut, Cursor: f.cursor, Err: err, Pause: pause}); err != nil {
			return err
		}
		if err := c.config.Sleep(ctx, pause); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
	}
}

// passing has a stream outlive an internal error, which one request does not.
func passing(err error) error {
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusInternalServerError {
		return &connectionError{err}
	}
	return err
}

// stoppedError is what the caller's function returned.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }

// follower is one stream over all its connections.
type follower struct {
	*Client
	filter url.Values
	handle func(Event) error
	cursor string
	seen   *memory
	begun  bool // it was subscribed once

	// Of the connection there is:
	subscribed bool
	progress   bool      // it brought entries
	entriesAt  time.Time // when it did last, or was subscribed
}

// tell hands an event on, with the cursor.
func (f *follower) tell(kind EventKind, entries []json.RawMessage, cursor string) error {
	if err := f.handle(Event{Kind: kind, Entries: entries, Cursor: cursor}); err != nil {
		return &stoppedError{err}
	}
	return nil
}

// frame is what the service sends.
type frame struct {
	Type   string            `json:"type"`
	Items  []json.RawMessage `json:"items"`
	Cursor string            `json:"cursor"`
	Error  *Problem          `json:"error"`
}

// take handles one frame. Kinds of frames that are not known are left alone.
func (f *follower) take(ctx context.Context, text []byte) error {
	var got frame
	if err := decode("frame", text, &got); err != nil {
		return err
	}
	switch {
	case got.Type == "error" && got.Error != nil:
		return f.refused(got.Error)
	case got.Type == "subscribed":
		f.subscribed, f.begun, f.entriesAt = true, true, time.Now()
		f.cursor = got.Cursor
		return f.tell(StreamSubscribed, nil, f.cursor)
	case !f.subscribed:
		return &connectionError{errors.New("the service did not answer the subscription")}
	case got.Type == "entries":
		return f.entries(ctx, got)
	case got.Type == "lagged":
		return f.tell(StreamLagged, nil, got.Cursor)
	case got.Type == "pong":
		return f.pong(got.Cursor)
	}
	return nil
}

// refused judges an error frame.
func (f *follower) refused(problem *Problem) error {
	switch {
	case problem.Status == http.StatusUnauthorized:
		// The connection's time is over. Whether the credential's is shows the next one.
		return &connectionError{problem}
	case problem.Status >= http.StatusInternalServerError || problem.Status == http.StatusTooManyRequests:
		if f.subscribed {
			return nil // a ping was not answered, but the connection lives
		}
		return &connectionError{problem}
	}
	for _, field := range problem.Fields {
		if field.Pointer == "/after" && field.Code == "expired" {
			return fmt.Errorf("%w: %w", ErrCursorExpired, problem)
		}
	}
	return problem
}

// pong moves the cursor of a stream that has nothing to bring, so that it does
// not expire. Near entries it may still be the one of before them.
func (f *follower) pong(cursor string) error {
	if cursor == "" || cursor == f.cursor || time.Since(f.entriesAt) < f.config.PingEvery {
		return nil
	}
	f.cursor = cursor
	return f.tell(StreamEntries, nil, cursor)
}

// entries hands on those that were not handed on before.
func (f *follower) entries(ctx context.Context, got frame) error {
	items := make([]item, 0, len(got.Items))
	for _, text := range got.Items {
		one := item{text: text}
		if err := decode("entry", text, &one); err != nil {
			return err
		}
		if one.ID.IsZero() {
			return errors.New("an entry of the stream has no id")
		}
		if !f.seen.has(one.ID) {
			items = append(items, one)
		}
	}
	if err := f.complete(ctx, items); err != nil {
		return err
	}
	texts := make([]json.RawMessage, len(items))
	for i := range items {
		f.seen.add(items[i].ID)
		texts[i] = items[i].text
	}
	f.cursor, f.progress = got.Cursor, true
	err := f.tell(StreamEntries, texts, f.cursor)
	f.entriesAt = time.Now()
	return err
}

// maxSeen is more entries than come again where the service was killed between
// sending and noting it: a few segments of its stream.
const maxSeen = 32 << 10

// memory knows the last ids that were added to it.
type memory struct {
	known map[audit.EntryID]struct{}
	order []audit.EntryID // a ring once it is full
	next  int
}

func newMemory(most int) *memory {
	return &memory{known: map[audit.EntryID]struct{}{}, order: make([]audit.EntryID, 0, most)}
}

func (m *memory) has(id audit.EntryID) bool {
	_, known := m.known[id]
	return known
}

// add remembers an id that it does not have.
func (m *memory) add(id audit.EntryID) {
	m.known[id] = struct{}{}
	if len(m.order) < cap(m.order) {
		m.order = append(m.order, id)
		return
	}
	delete(m.known, m.order[m.next])
	m.order[m.next] = id
	m.next = (m.next + 1) % len(m.order)
}
