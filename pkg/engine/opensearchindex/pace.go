package opensearchindex

import (
	"context"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// minPaced is the number of entries from which on a count says how fast the cluster is.
	minPaced = 100_000
	// paceTTL is how long a process relies on it. Then one count may show that the cluster was
	// only busy.
	paceTTL = time.Minute
)

// paces is how fast a process has seen the cluster count groups, so that it refuses at once what
// has no chance. The zero value is ready for use. It has one element for each pair of fields, and
// one name for all paths of the metadata.
type paces struct {
	mu       sync.Mutex
	perEntry map[paceKey]pace
}

type paceKey [audit.MaxGroupBy]audit.Field

type pace struct {
	perEntry time.Duration // times 1,000, because it is far below a microsecond
	seenAt   time.Time
}

const paceScale = 1000

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
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, known := p.perEntry[key]
	if !known || now.Sub(seen.seenAt) >= paceTTL {
		return nil
	}
	if seen.perEntry.Seconds()/paceScale*float64(entries) > audit.MaxStatsTime.Seconds() {
		return audit.ErrSlowStats()
	}
	return nil
}

// learn notes how long a count took. If it was ended before, it would have taken longer.
func (p *paces) learn(ctx context.Context, key paceKey, entries int64, took time.Duration, now time.Time) {
	if entries < minPaced {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perEntry == nil {
		p.perEntry = map[paceKey]pace{}
	}
	latest := pace{perEntry: paceScale * took / time.Duration(entries), seenAt: now}
	if old := p.perEntry[key]; ctx.Err() != nil && old.perEntry > latest.perEntry {
		return
	}
	p.perEntry[key] = latest
}
