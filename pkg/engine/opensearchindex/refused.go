package opensearchindex

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// refusedTTL is how long a process refuses the same statistics again at once. Then it tries
	// them, because the cluster may only have been busy.
	refusedTTL = time.Minute
	// maxRefused bounds the statistics that a process remembers.
	maxRefused = 256
)

// refusals are the statistics that took too long a short time ago. They are told apart by
// everything that was asked: a narrower request of the same fields may well be counted in time.
type refusals struct {
	seen *ttlcache.Cache[refusalKey, struct{}]
}

type refusalKey [sha256.Size]byte

func newRefusals() *refusals { return &refusals{ttlcache.New[refusalKey, struct{}](maxRefused)} }

// refusalKeyOf returns the key of a request. Bounds that follow the present time differ from one
// request to the next: those of rules of expiry are not part of it, others count by the minute.
func refusalKeyOf(tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (key refusalKey, err error) {
	filter.Unexpired = nil
	filter.From, filter.To = filter.From.Truncate(refusedTTL), filter.To.Truncate(refusedTTL)
	where, err := compile(tenant, filter)
	if err != nil {
		return key, err
	}
	text, err := json.Marshal([]any{where, request.GroupBy, request.Top, request.Interval, request.Zone.String(), request.Distinct})
	return sha256.Sum256(text), err
}

func (r *refusals) has(key refusalKey, now time.Time) bool {
	seen, known := r.seen.Get(key)
	return known && seen.Fresh(now, refusedTTL)
}

func (r *refusals) add(key refusalKey, now time.Time) {
	r.seen.Put(key, ttlcache.Entry[struct{}]{ReadAt: now})
}
