package panics_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/panics"
)

func TestRecovered(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	if err := panics.Recovered(t.Context(), func() error { return nil }); err != nil {
		t.Error(err)
	}
	down := errors.New("down")
	if err := panics.Recovered(t.Context(), func() error { return down }); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
	err := panics.Recovered(t.Context(), func() error { panic("entry content") })
	if err == nil {
		t.Fatal("a panic: got no error, want one")
	}
	if got, want := err.Error(), "panic of type string"; got != want {
		t.Errorf("got the error %q, want %q", got, want)
	}
	if !strings.Contains(log.String(), "TestRecovered") {
		t.Errorf("got the log %s, want the stack in it", log.String())
	}
	if strings.Contains(log.String(), "entry content") {
		t.Errorf("got the log %s, want it without the panic's value", log.String())
	}
}
