package envelope_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// FuzzUnpack reads any body. What it reads as entries packs and unpacks to the same entries.
func FuzzUnpack(f *testing.F) {
	bodies, err := envelope.Pack("acme", []audit.Entry{entry(1, "one"), entry(2, "two")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bodies[0])
	f.Add(`{"v":1,"tenant":"acme","count":1,"encoding":"zstd","data":""}`)
	f.Fuzz(func(t *testing.T, body string) {
		contents, err := envelope.Unpack(body)
		if err != nil || len(contents.Entries) == 0 {
			return
		}
		packed, err := envelope.Pack(contents.Tenant, contents.Entries)
		if err != nil {
			t.Fatal(err)
		}
		var again []audit.Entry
		for _, text := range packed {
			c, err := envelope.Unpack(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Poison) > 0 {
				t.Fatalf("got %d lines of poison, want none", len(c.Poison))
			}
			again = append(again, c.Entries...)
		}
		if diff := cmp.Diff(stored(contents.Entries), stored(again)); diff != "" {
			t.Errorf("the entries (-want +got):\n%s", diff)
		}
	})
}

// stored returns the text of each entry.
func stored(entries []audit.Entry) (texts []string) {
	for i := range entries {
		texts = append(texts, string(entryjson.AppendStored(nil, &entries[i])))
	}
	return texts
}
