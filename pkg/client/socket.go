package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	defaultPingEvery = 30 * time.Second
	// maxFrame is the maximum size of a frame, in bytes. Messages of API Gateway have at most
	// 128 KB.
	maxFrame = 1 << 20
	// maxMessage is the maximum length of a client's message, in bytes. It equals
	// stream.MaxMessageSize, which this package must not import: a client does not depend on the
	// service. API Gateway limits messages to 128 KB, and their frames to 32 KB. sentFrame is well
	// below the latter.
	maxMessage = 128 << 10
	sentFrame  = 16 << 10
	// readsAtOnce is how many entries of one frame are read at the same time.
	readsAtOnce = 4
	// notYetTries is how often an entry is requested that is not stored yet.
	notYetTries = 3
)

// connection opens a connection and handles its frames. It always returns an error. If the
// stream can continue, the error is a *connectionError.
func (f *follower) connection(ctx context.Context) error {
	conn, err := f.dial(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var pinging sync.WaitGroup
	pinging.Go(func() { cancel(f.ping(ctx, conn)) })
	defer func() {
		cancel(nil)
		_ = conn.CloseNow() // it may be closed
		pinging.Wait()
	}()
	conn.SetReadLimit(maxFrame)
	if err := f.subscribe(ctx, conn); err != nil {
		return err
	}
	for {
		text, err := f.next(ctx, conn)
		if err == nil {
			err = f.handleFrame(ctx, text)
		}
		if err != nil {
			return err
		}
	}
}

// dial opens the connection. If the service answers otherwise, the error is a *Problem.
func (f *follower) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.config.Timeout)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, f.stream.String(), &websocket.DialOptions{HTTPClient: f.http, HTTPHeader: f.header()})
	if err == nil {
		return conn, nil
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed // without what the library says around it
	}
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return nil, &connectionError{err}
	}
	defer func() { _ = response.Body.Close() }() // it is in memory
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, &connectionError{fmt.Errorf("read the answer: %w", err)}
	}
	return nil, problemFrom(response, body)
}

// subscribe asks for the entries after the cursor.
func (f *follower) subscribe(ctx context.Context, conn *websocket.Conn) error {
	message, err := json.Marshal(struct {
		Action string     `json:"action"`
		Filter url.Values `json:"filter,omitempty"`
		After  string     `json:"after,omitempty"`
	}{"subscribe", f.filter, f.cursor})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if len(message) > maxMessage {
		return fmt.Errorf("subscribe: the filter is too long: with it the subscription has %d bytes, at most %d are taken", len(message), maxMessage)
	}
	ctx, cancel := context.WithTimeout(ctx, f.config.Timeout)
	defer cancel()
	if err := writeInFrames(ctx, conn, message); err != nil {
		return &connectionError{fmt.Errorf("subscribe: %w", err)}
	}
	return nil
}

// writeInFrames sends a text as one message. It divides a long text into several frames.
func writeInFrames(ctx context.Context, conn *websocket.Conn, text []byte) error {
	if len(text) <= sentFrame {
		return conn.Write(ctx, websocket.MessageText, text)
	}
	w, err := conn.Writer(ctx, websocket.MessageText)
	if err != nil {
		return err
	}
	for frame := range slices.Chunk(text, sentFrame) {
		if _, err := w.Write(frame); err != nil { // each Write is a frame
			return err
		}
	}
	return w.Close()
}

// next returns the text of the next frame. If none arrives in time although a ping was sent,
// the connection counts as lost.
func (f *follower) next(ctx context.Context, conn *websocket.Conn) ([]byte, error) {
	timeout := f.config.PingEvery + f.pongTime()
	if !f.subscribed {
		timeout = f.config.Timeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, text, err := conn.Read(bounded)
	var closed websocket.CloseError
	switch {
	case err == nil:
		return text, nil
	case ctx.Err() != nil:
		return nil, &connectionError{context.Cause(ctx)}
	case bounded.Err() != nil:
		return nil, &connectionError{fmt.Errorf("nothing came for %s", timeout)}
	case errors.As(err, &closed):
		return nil, &connectionError{fmt.Errorf("the service ended the connection: %d %s", int(closed.Code), closed.Reason)}
	case errors.Is(err, io.EOF):
		return nil, &connectionError{errors.New("the connection broke off")}
	}
	return nil, &connectionError{err}
}

// pongTime is how long an answer to a ping may take.
func (f *follower) pongTime() time.Duration { return f.config.PingEvery / 3 }

// ping sends pings until ctx ends or sending fails. It also keeps the gateway from closing an
// idle connection. The answers arrive as frames.
func (f *follower) ping(ctx context.Context, conn *websocket.Conn) error {
	ticker := time.NewTicker(f.config.PingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := f.pingOnce(ctx, conn); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
	}
}

func (f *follower) pingOnce(ctx context.Context, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.pongTime())
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, []byte(`{"action":"ping"}`))
}

// item is an entry of a frame.
type item struct {
	ID      audit.EntryID `json:"id"`
	Omitted []string      `json:"omitted"`
	text    json.RawMessage
}

// complete reads the whole entries of shortened items. It returns an error only if a retry can
// succeed.
func (f *follower) complete(ctx context.Context, items []item) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i := range items {
		if len(items[i].Omitted) == 0 {
			continue
		}
		group.Go(func() error {
			text, err := f.fullEntry(ctx, items[i].ID)
			var problem *Problem
			switch {
			case err == nil:
				items[i].text = text
			case !errors.As(err, &problem) || IsTransient(err):
				return &connectionError{err}
			}
			return nil // it comes as it is: it may not be read, or no longer exists
		})
	}
	return group.Wait()
}

// fullEntry returns the entry as a list has it.
func (f *follower) fullEntry(ctx context.Context, id audit.EntryID) (json.RawMessage, error) {
	for try := 1; ; try++ {
		text, err := f.Entry(ctx, id)
		var problem *Problem
		switch {
		case err == nil:
			return withoutStatus(text)
		case !errors.As(err, &problem) || problem.Status != http.StatusNotFound || problem.RetryAfter == 0 || try == notYetTries:
			return nil, err
		}
		if err := f.config.Sleep(ctx, problem.RetryAfter); err != nil {
			return nil, err
		}
	}
}

// withoutStatus removes the member "status", which only GET /logs/{id} adds, as the last one.
func withoutStatus(text json.RawMessage) (json.RawMessage, error) {
	var with struct {
		Status json.RawMessage `json:"status"`
	}
	if err := decode("entry", text, &with); err != nil {
		return nil, err
	}
	entry, _ := bytes.CutSuffix(text, slices.Concat([]byte(`,"status":`), with.Status, []byte("}")))
	if len(entry) < len(text) {
		entry = append(entry, '}')
	}
	return entry, nil
}
