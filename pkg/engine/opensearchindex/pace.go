package opensearchindex

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// minPaced is the number of entries from which on a count says how fast the cluster is.
	minPaced = 100_000
	// paceTTL is how long a process relies on it. Then one count may show that the cluster was
	// only busy.
	paceTTL = time.Minute
)

// paces is how fast a process has seen the cluster count groups, in nanoseconds for an entry, so
// that it refuses at once what has no chance.
type paces struct {
	seen *ttlcache.Cache[paceKey, float64]
}

// paceKey is what is grouped by, with one name for all paths of the metadata.
type paceKey [audit.MaxGroupBy]audit.Field

// maxPaces bounds the pairs of fields.
const maxPaces = 256

func newPaces() *paces { return &paces{ttlcache.New[paceKey, float64](maxPaces)} }

func paceKeyOf(by []audit.Field) (key paceKey) {
	for i, field := range by {
		if _, ofMetadata := field.MetadataPath(); ofMetadata {
			field = "metadata"
		}
		key[i] = field
	}
	return key
}

// check returns audit.ErrSlowStats if groups of so many entries take longer than
// audit.MaxStatsTime at the pace that was seen last.
func (p *paces) check(key paceKey, entries int64, now time.Time) error {
	seen, known := p.seen.Get(key)
	if known && seen.Fresh(now, paceTTL) && seen.Value*float64(entries) > float64(audit.MaxStatsTime) {
		return audit.ErrSlowStats()
	}
	return nil
}

// learn notes how long a count took. If it was ended before, it would have taken longer.
func (p *paces) learn(key paceKey, entries int64, took time.Duration, ended bool, now time.Time) {
	if entries < minPaced {
		return
	}
	latest := ttlcache.Entry[float64]{Value: float64(took) / float64(entries), ReadAt: now}
	p.seen.Update(key, func(old ttlcache.Entry[float64], _ bool) (ttlcache.Entry[float64], bool) {
		return latest, !ended || old.Value <= latest.Value
	})
}
