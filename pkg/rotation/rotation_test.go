package rotation_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// secret is a secret of Secrets Manager in memory.
type secret struct {
	values map[string]string
	stages map[string][]string
	puts   int
	fails  error
}

func newSecret(value string) *secret {
	return &secret{values: map[string]string{"v0": value}, stages: map[string][]string{"v0": {rotation.Current}}}
}

func (s *secret) Stages(context.Context) (map[string][]string, error) { return s.stages, s.fails }

func (s *secret) Value(_ context.Context, version string) (string, error) {
	value, is := s.values[version]
	if !is {
		return "", audit.ErrNotFound
	}
	return value, nil
}

func (s *secret) Put(_ context.Context, version, value string) error {
	s.puts++
	s.values[version], s.stages[version] = value, []string{rotation.Pending}
	return nil
}

func (s *secret) Promote(_ context.Context, from, to string) error {
	s.stages[from], s.stages[to] = []string{"AWSPREVIOUS"}, []string{rotation.Current}
	return nil
}

func (s *secret) current() string {
	for version, stages := range s.stages {
		if stages[0] == rotation.Current {
			return s.values[version]
		}
	}
	return ""
}

func newKeys(s *secret) *rotation.Keys {
	n := byte(0)
	return &rotation.Keys{Versions: s, Random: func(b []byte) {
		n++
		for i := range b {
			b[i] = n
		}
	}}
}

func rotate(t *testing.T, k *rotation.Keys, version string) {
	t.Helper()
	for _, step := range []string{rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish} {
		for range 2 { // Secrets Manager may ask again
			if err := k.Rotate(t.Context(), rotation.Request{Step: step, Version: version}); err != nil {
				t.Fatalf("%s of %s: %v", step, version, err)
			}
		}
	}
}

func signerOf(t *testing.T, value string) *cursor.Signer {
	t.Helper()
	keys, err := cursor.ParseKeys([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return cursor.NewRotatingSigner(func() [][]byte { return keys })
}

// A process may have the ring of before a rotation while another has that of after it.
func TestCursorsStayValidOverManyRotations(t *testing.T) {
	s := newSecret(strings.Repeat("k", cursor.MinKeyBytes))
	k := newKeys(s)
	first := signerOf(t, s.current()).Sign("feed", []byte("place"))
	signed := map[string]bool{}
	for i := range cursor.MaxKeys - 2 {
		before := signerOf(t, s.current())
		rotate(t, k, "v"+strings.Repeat("+", i+1))
		after := signerOf(t, s.current())
		for name, pair := range map[string][2]*cursor.Signer{"old ring, new cursor": {after, before}, "new ring, old cursor": {before, after}} {
			if _, err := pair[1].ParseRecent("ticket", pair[0].Sign("ticket", nil)); err != nil {
				t.Errorf("rotation %d: %s: got error %v, want it valid", i+1, name, err)
			}
		}
		if _, err := after.Parse("feed", first); err != nil {
			t.Errorf("rotation %d: the first cursor: got error %v, want it valid", i+1, err)
		}
		signed[after.Sign("feed", nil)] = true
	}
	if s.puts != cursor.MaxKeys-2 {
		t.Errorf("got %d new versions, want %d: a repeated step makes none", s.puts, cursor.MaxKeys-2)
	}
	if got, want := len(signed), cursor.MaxKeys-2; got < want {
		t.Errorf("got %d keys that signed, want %d: each rotation brings another", got, want)
	}
}

func TestABadRotationIsRefused(t *testing.T) {
	const pending = "v1"
	good := strings.Repeat("k", cursor.MinKeyBytes)
	for name, test := range map[string]struct {
		change func(*secret)
		step   string
	}{
		"an unknown step":             {func(*secret) {}, "deleteSecret"},
		"no secret":                   {func(s *secret) { s.fails = errors.New("down") }, rotation.StepCreate},
		"no current version":          {func(s *secret) { s.stages = nil }, rotation.StepCreate},
		"a current value without key": {func(s *secret) { s.values["v0"] = "short" }, rotation.StepCreate},
		"no new version":              {func(*secret) {}, rotation.StepTest},
		"nothing to finish":           {func(*secret) {}, rotation.StepFinish},
		"keys that are none":          {func(s *secret) { s.values[pending] = "short" }, rotation.StepFinish},
		"keys of somebody else":       {func(s *secret) { s.values[pending] = strings.Repeat("x", cursor.MinKeyBytes) }, rotation.StepTest},
	} {
		s := newSecret(good)
		test.change(s)
		err := newKeys(s).Rotate(t.Context(), rotation.Request{Step: test.step, Version: pending})
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
		if got := s.values["v0"]; s.stages != nil && s.current() != got {
			t.Errorf("%s: got another current value, want that of before", name)
		}
	}
	if err := newKeys(newSecret(good)).Rotate(t.Context(), rotation.Request{Step: rotation.StepCreate}); err == nil {
		t.Error("no version: got no error, want one")
	}
}
