package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// SenderUnderTest has the gateway that the Sender suite tests, and its clients.
type SenderUnderTest struct {
	Sender stream.Sender
	// Connect connects a client that is closed after the test.
	Connect func(t *testing.T) SenderClient
}

// SenderClient is a client of the gateway.
type SenderClient interface {
	// ID is the connection's id at the gateway.
	ID() string
	// Read returns the next text. It returns an error once the connection has ended.
	Read(ctx context.Context) ([]byte, error)
	// Leave closes the connection, as a client does.
	Leave() error
}

// Sender tests a gateway that sends to clients.
func Sender(t *testing.T, open func(t *testing.T) SenderUnderTest) {
	for name, test := range map[string]func(*testing.T, SenderUnderTest){
		"SendsInOrderToTheOneClient":    senderKeepsOrder,
		"SendsWhatItIsGiven":            senderKeepsTexts,
		"BoundsFrames":                  senderBounds,
		"SendsForSeveralAtOnce":         senderConcurrently,
		"KnowsWhoIsGone":                senderKnowsGone,
		"CutsConnections":               senderCuts,
		"IsNotMisledByOddConnectionIDs": senderOddIDs,
		"CancelledCallsDoNoHarm":        senderCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func readText(t *testing.T, c SenderClient) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	text, err := c.Read(ctx)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(text)
}

// wantEnded reads messages and fails the test unless the connection ends.
func wantEnded(t *testing.T, c SenderClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		if _, err := c.Read(ctx); err != nil {
			if ctx.Err() != nil {
				t.Fatalf("the client is still connected after %v, want it disconnected", timeout)
			}
			return
		}
	}
}

func senderKeepsOrder(t *testing.T, u SenderUnderTest) {
	a, b := u.Connect(t), u.Connect(t)
	if a.ID() == b.ID() {
		t.Fatalf("two clients have the ID %q, want different ones", a.ID())
	}
	const n = 100
	for i := range n {
		noError(t, u.Sender.Send(t.Context(), a.ID(), fmt.Appendf(nil, "a %d", i)))
		noError(t, u.Sender.Send(t.Context(), b.ID(), fmt.Appendf(nil, "b %d", i)))
	}
	for i := range n {
		if got, want := readText(t, a)+readText(t, b), fmt.Sprintf("a %db %d", i, i); got != want {
			t.Fatalf("the clients got %q, want %q", got, want)
		}
	}
}

func senderKeepsTexts(t *testing.T, u SenderUnderTest) {
	c := u.Connect(t)
	text := []byte("reused")
	noError(t, u.Sender.Send(t.Context(), c.ID(), text))
	copy(text, "######") // it is the caller's again
	if got := readText(t, c); got != "reused" {
		t.Errorf("got %q, want what the text was when it was sent", got)
	}
	for _, text := range hostile {
		noError(t, u.Sender.Send(t.Context(), c.ID(), []byte(text)))
		if got := readText(t, c); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

func senderBounds(t *testing.T, u SenderUnderTest) {
	c := u.Connect(t)
	large := bytes.Repeat([]byte("é"), stream.MaxFrameBytes/2)
	for range 5 {
		noError(t, u.Sender.Send(t.Context(), c.ID(), large))
	}
	for range 5 {
		if readText(t, c) != string(large) {
			t.Fatal("the largest frame arrived changed, want it as sent")
		}
	}
	err := u.Sender.Send(t.Context(), c.ID(), append(large, 'x'))
	if err == nil {
		t.Fatal("a frame that is too large: got no error, want one")
	}
	for _, other := range []error{stream.ErrGone, stream.ErrBusy} {
		if errors.Is(err, other) {
			t.Fatalf("a frame that is too large: got error %v, want one other than %v", err, other)
		}
	}
	noError(t, u.Sender.Send(t.Context(), c.ID(), []byte("after")))
	if got := readText(t, c); got != "after" {
		t.Fatalf("got %d bytes, want none of the frame that is too large", len(got))
	}
}

func senderConcurrently(t *testing.T, u SenderUnderTest) {
	const clients, senders, each = 4, 4, 10
	var running sync.WaitGroup
	for n := range clients {
		c := u.Connect(t)
		for s := range senders {
			running.Go(func() {
				for i := range each {
					if err := u.Sender.Send(t.Context(), c.ID(), fmt.Appendf(nil, "%d %d %d", n, s, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Go(func() {
			next := map[string]int{}
			for range senders * each {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				text, err := c.Read(ctx)
				cancel()
				sender, _, _ := strings.Cut(strings.TrimPrefix(string(text), fmt.Sprint(n, " ")), " ")
				if err != nil {
					t.Errorf("got error %v, want message %d of %q", err, next[sender], sender)
					return
				}
				if want := fmt.Sprint(n, " ", sender, " ", next[sender]); string(text) != want {
					t.Errorf("got %q, want %q", text, want)
					return
				}
				next[sender]++
			}
		})
	}
	running.Wait()
}

func senderKnowsGone(t *testing.T, u SenderUnderTest) {
	stays, leaves := u.Connect(t), u.Connect(t)
	noError(t, leaves.Leave())
	eventually(t, "being gone after leaving", func() bool {
		err := u.Sender.Send(t.Context(), leaves.ID(), []byte("late"))
		if err != nil && !errors.Is(err, stream.ErrGone) {
			t.Fatalf("error = %v, want %v", err, stream.ErrGone)
		}
		return err != nil
	})
	noError(t, u.Sender.Cut(t.Context(), leaves.ID()))
	noError(t, u.Sender.Send(t.Context(), stays.ID(), []byte("for one")))
	if got := readText(t, stays); got != "for one" {
		t.Errorf("the other client: got %q, want %q", got, "for one")
	}
}

func senderCuts(t *testing.T, u SenderUnderTest) {
	stays, cut := u.Connect(t), u.Connect(t)
	for range 2 { // the second time it is gone
		noError(t, u.Sender.Cut(t.Context(), cut.ID()))
		wantError(t, u.Sender.Send(t.Context(), cut.ID(), []byte("late")), stream.ErrGone)
	}
	wantEnded(t, cut)
	noError(t, u.Sender.Cut(t.Context(), cut.ID()))
	noError(t, u.Sender.Send(t.Context(), stays.ID(), []byte("for one")))
	if got := readText(t, stays); got != "for one" {
		t.Errorf("the other client: got %q, want %q", got, "for one")
	}
}

func senderOddIDs(t *testing.T, u SenderUnderTest) {
	c := u.Connect(t)
	ids := append([]string{
		"", c.ID() + "?", c.ID() + "#", c.ID() + " ", "/" + c.ID(), "../@connections/" + c.ID(), c.ID() + "%", c.ID() + "%3D", c.ID() + "\x00",
	}, hostile...)
	for _, id := range ids {
		if err := u.Sender.Send(t.Context(), id, []byte("text")); !errors.Is(err, stream.ErrGone) {
			t.Errorf("send to %q: %v, want %v", id, err, stream.ErrGone)
		}
		if err := u.Sender.Cut(t.Context(), id); err != nil {
			t.Errorf("cut %q: got error %v, want none", id, err)
		}
	}
	noError(t, u.Sender.Send(t.Context(), c.ID(), []byte("for one")))
	if got := readText(t, c); got != "for one" {
		t.Errorf("got %q, want %q", got, "for one")
	}
}

func senderCancelled(t *testing.T, u SenderUnderTest) {
	c := u.Connect(t)
	wantError(t, u.Sender.Send(cancelled(t), c.ID(), []byte("never")), context.Canceled)
	wantError(t, u.Sender.Cut(cancelled(t), c.ID()), context.Canceled)
	noError(t, u.Sender.Send(t.Context(), c.ID(), []byte("after")))
	if got := readText(t, c); got != "after" {
		t.Errorf("got %q, want %q", got, "after")
	}
}
