package mongostore_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// TestCommandsOfCreatingKeys: many keys of a request cost two commands at most, however many of their
// subjects were erased before.
func TestCommandsOfCreatingKeys(t *testing.T) {
	var sent commands
	uri := enginetest.Mongo(t)
	store := open(t, uri, newDatabase(t, uri), mongostore.WithMonitor(sent.monitor())).TenantKeys()
	keys := make([]protect.StoredKey, 100)
	ids := make([]protect.SubjectID, len(keys))
	for i := range keys {
		ids[i] = protect.SubjectID{1, byte(i)}
		keys[i] = protect.StoredKey{Ref: protect.KeyRef{Subject: ids[i], Generation: 1}, Wrapped: []byte("wrapped")}
		if i%2 == 0 {
			if err := store.DestroyKey(t.Context(), "acme", keys[i].Ref); err != nil {
				t.Fatal(err)
			}
			keys[i].Ref.Generation = 2
		}
	}
	before := len(sent.all())
	if err := store.CreateKeys(t.Context(), "acme", keys); err != nil {
		t.Fatal(err)
	}
	if got := sent.all()[before:]; len(got) > 2 {
		t.Errorf("100 keys cost %d commands, want at most 2: %v", len(got), names(got))
	}
	// What exists stays.
	for i := range keys {
		keys[i].Wrapped = []byte("another")
	}
	if err := store.CreateKeys(t.Context(), "acme", keys); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Keys(t.Context(), "acme", ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(keys) {
		t.Fatalf("got %d keys, want %d", len(stored), len(keys))
	}
	for _, k := range stored {
		if string(k.Wrapped) != "wrapped" {
			t.Errorf("generation %d of %x is %q, want the first one that was stored", k.Ref.Generation, k.Ref.Subject, k.Wrapped)
		}
	}
}
