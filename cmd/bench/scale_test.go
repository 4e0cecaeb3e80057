package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

func TestScaleCurrent(t *testing.T) {
	want, err := scalePage()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "docs", "scale.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/scale.md is stale: run `make generate` (-want +got):\n%s", diff)
	}
}

func TestProseFitsTheWidth(t *testing.T) {
	page, err := scalePage()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "|") && utf8.RuneCountInString(line) > proseWidth {
			t.Errorf("line %d has %d columns, want at most %d: %s", i+1, utf8.RuneCountInString(line), proseWidth, line)
		}
	}
}

// A row without its bound would promise nothing.
func TestScaleNamesEveryBound(t *testing.T) {
	page, err := scalePage()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"| primary shards a month |", "| persist-logs at once, bulks of 100, 20,000/s |", "| index-logs at once, single entries, 20,000/s |",
		"| USD for a million entries: all in MongoDB, DocumentDB |", "| USD for a million entries: archived, Atlas |",
	} {
		_, rest, found := strings.Cut(page, "\n"+row)
		if !found {
			t.Errorf("the page has no row %q", row)
			continue
		}
		line, _, _ := strings.Cut(rest, "\n")
		if !strings.Contains(line, "≤") {
			t.Errorf("the row %q has no bound: %s", row, line)
		}
	}
}

// The model of a message is that of the real packer.
func TestPackedBytes(t *testing.T) {
	for _, n := range []int{1, 3, 10, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bytes, messages := 0, 0
			accept := acceptInto(queue(func(bodies []string) {
				for _, body := range bodies {
					bytes, messages = bytes+len(body), messages+1
				}
			}))
			if _, err := accept.Submit(t.Context(), tenantOf(benchTenant), ingest.Origin{SubmittedBy: "key:bench"}, newCorpus(9).entries(n)); err != nil {
				t.Fatal(err)
			}
			want := float64(cost.PackedBytes*n + cost.MessageBytes*messages)
			if raw := cost.SingleBytes * n; raw <= cost.RawBytes {
				want = float64(raw)
			}
			if off := math.Abs(float64(bytes)/want - 1); off > 0.1 {
				t.Errorf("%d entries take %d bytes in %d messages, the model says %.0f", n, bytes, messages, want)
			}
		})
	}
}

func TestDefaultsArePlacementsSettings(t *testing.T) {
	for _, name := range []string{"OCELOT_SEARCH_POOLS", "OCELOT_SEARCH_SEPARATE_TENANTS", "MONGODB_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"} {
		t.Setenv(name, "") // restores the variable after the test
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := config.ReadDev()
	if err != nil {
		t.Fatal(err)
	}
	if got := settings.Engines.SearchPools; got != cost.DefaultPools {
		t.Errorf("pkg/config has %d pools, pkg/cost %d", got, cost.DefaultPools)
	}
	if got := settings.Engines.SearchSeparateTenants; got != cost.DefaultSeparateTenants {
		t.Errorf("pkg/config has %d separate tenants, pkg/cost %d", got, cost.DefaultSeparateTenants)
	}
}

func TestPlaceTenants(t *testing.T) {
	for name, c := range map[string]struct {
		shares  []float64
		entries float64
		want    shardPlan
	}{
		// 130 million and a fifth more need four shards of 50 million, 20 million one.
		"a few tenants": {[]float64{130. / 150, 20. / 150}, 150e6, shardPlan{ownTenants: 2, ownShards: 5}},
		// Everyone is below tenants.OwnEntries. Each of 16 pools has about 62 million entries.
		"many small tenants": {cost.Alike(2000), 1000e6, shardPlan{pools: 16, poolShards: 32, poolWidest: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := placeTenants(t.Context(), c.shares, c.entries)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(shardPlan{})); diff != "" {
				t.Errorf("the plan (-want +got):\n%s", diff)
			}
		})
	}
}

// One tenant with as many entries as all pools together leaves them.
func TestPlaceTenantsPromotes(t *testing.T) {
	shares := append([]float64{0.5}, cost.Alike(1000)...)
	for i := 1; i < len(shares); i++ {
		shares[i] /= 2
	}
	got, err := placeTenants(t.Context(), shares, 100e6)
	if err != nil {
		t.Fatal(err)
	}
	if got.ownTenants != 1 {
		t.Errorf("%d tenants have indexes of their own, want 1", got.ownTenants)
	}
	if want := tenants.ShardsFor(50e6); got.ownShards != want {
		t.Errorf("they have %d shards, want %d", got.ownShards, want)
	}
	if got.pools != cost.DefaultPools {
		t.Errorf("there are %d pools, want %d", got.pools, cost.DefaultPools)
	}
}

func TestCollections(t *testing.T) {
	shared, dedicated := collections()
	if want := 7 * 12; shared != want {
		t.Errorf("%d shared collections, want %d", shared, want)
	}
	if want := 7 * 10; dedicated != want {
		t.Errorf("%d collections of dedicated tenants, want %d", dedicated, want)
	}
}
