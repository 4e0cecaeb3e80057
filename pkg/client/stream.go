package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Subscription selects the entries of a stream.
type Subscription struct {
	// Filter has the filter parameters of GET /logs. An empty filter selects every entry.
	Filter url.Values
	// After is the cursor to resume from. "" begins with the entries that are stored from now
	// on.
	After string
}

// EventKind is the kind of an Event.
type EventKind string

// The kinds of events.
const (
	// StreamSubscribed means that the stream runs: for the first time, or again after a lost
	// connection.
	StreamSubscribed EventKind = "subscribed"
	// StreamEntries has entries in the order of the stream. Without entries it only moves the
	// cursor past entries that the filter does not select.
	StreamEntries EventKind = "entries"
	// StreamLagged means that the service skipped entries because this client was too far
	// behind. A new subscription after the event's cursor delivers them.
	StreamLagged EventKind = "lagged"
	// StreamCut means that the connection is lost. The client connects again after the pause.
	StreamCut EventKind = "cut"
)

// Event is one event of a stream.
type Event struct {
	Kind EventKind
	// Entries are the texts of entries as the service spells them.
	Entries []json.RawMessage
	// Cursor is the position after this event; "" before the first one.
	Cursor string
	// Err and Pause belong to StreamCut: the reason, and the time until the next attempt.
	Err   error
	Pause time.Duration
}

// Stream follows the live stream. It ends when ctx ends, when handle returns an error, which
// Stream returns, or when the service answers with a *Problem. After a lost connection it
// connects again and resumes without a gap. If the service sends an entry twice because a part
// of it was killed, handle gets it once. Only the first connection is limited to
// Config.Attempts attempts.
//
// Stream calls handle for one event at a time and reads nothing meanwhile. It reads the whole
// entry if an entry is too long for a frame. If the caller may not read it, handle gets the
// shortened entry, whose member "omitted" names the missing members.
func (c *Client) Stream(ctx context.Context, s Subscription, handle func(Event) error) error {
	f := &follower{Client: c, filter: s.Filter, cursor: s.After, handle: handle}
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
		pause, retry := wait.next(asTransient(err), c.config.Jitter)
		if !retry {
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

// asTransient turns an internal error of the service into a transient one. Unlike a single
// request, a stream survives it.
func asTransient(err error) error {
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusInternalServerError {
		return &connectionError{err}
	}
	return err
}

// stoppedError is an error of the caller's function.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }

// follower is one stream across its connections.
type follower struct {
	*Client
	filter url.Values
	handle func(Event) error
	cursor string
	place  int64 // of the last entry that handle got
	begun  bool  // it was subscribed once

	// State of the current connection:
	subscribed bool
	progress   bool      // it brought entries
	entriesAt  time.Time // when it did last, or was subscribed
}

// emit calls handle with an event and the cursor.
func (f *follower) emit(kind EventKind, entries []json.RawMessage, cursor string) error {
	if err := f.handle(Event{Kind: kind, Entries: entries, Cursor: cursor}); err != nil {
		return &stoppedError{err}
	}
	return nil
}

// frame is a frame of the service.
type frame struct {
	Type   string            `json:"type"`
	Items  []json.RawMessage `json:"items"`
	Places []int64           `json:"places"` // of the items
	Cursor string            `json:"cursor"`
	Error  *Problem          `json:"error"`
}

// handleFrame handles one frame. It ignores frames of unknown types.
func (f *follower) handleFrame(ctx context.Context, text []byte) error {
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
		return f.emit(StreamSubscribed, nil, f.cursor)
	case !f.subscribed:
		return &connectionError{errors.New("the service did not answer the subscription")}
	case got.Type == "entries":
		return f.entries(ctx, got)
	case got.Type == "lagged":
		return f.emit(StreamLagged, nil, got.Cursor)
	case got.Type == "pong":
		return f.pong(got.Cursor)
	}
	return nil
}

// handleError handles an error frame.
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
	return problem
}

// pong moves the cursor of an idle stream past entries that the filter does not select. Right
// after entries, the cursor of a pong can still be the one before them.
func (f *follower) pong(cursor string) error {
	if cursor == "" || cursor == f.cursor || time.Since(f.entriesAt) < f.config.PingEvery {
		return nil
	}
	f.cursor = cursor
	return f.emit(StreamEntries, nil, cursor)
}

// entries calls handle with the entries that it did not get before. Places rise, so those up to
// the last one come again.
func (f *follower) entries(ctx context.Context, got frame) error {
	if len(got.Places) != len(got.Items) {
		return fmt.Errorf("a frame of the stream has %d places for %d entries", len(got.Places), len(got.Items))
	}
	items := make([]item, 0, len(got.Items))
	last := f.place
	for i, text := range got.Items {
		if got.Places[i] <= last {
			continue
		}
		one := item{text: text}
		if err := decode("entry", text, &one); err != nil {
			return err
		}
		if one.ID.IsZero() {
			return errors.New("an entry of the stream has no id")
		}
		items, last = append(items, one), got.Places[i]
	}
	if err := f.complete(ctx, items); err != nil {
		return err
	}
	texts := make([]json.RawMessage, len(items))
	for i := range items {
		texts[i] = items[i].text
	}
	f.place, f.cursor, f.progress = last, got.Cursor, true
	err := f.emit(StreamEntries, texts, f.cursor)
	f.entriesAt = time.Now()
	return err
}
