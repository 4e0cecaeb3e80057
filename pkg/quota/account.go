package quota

import (
	"math"
	"sync"
	"time"
)

const (
	// leasePeriod is the shortest time between two leases of a tenant by a process.
	leasePeriod = time.Second
	// leaseTimeout bounds the call of the store.
	leaseTimeout = 2 * time.Second
	// leaseWait is how long a request waits for a lease. Then it goes by the process's own count.
	leaseWait = 250 * time.Millisecond
	// staleAfter is the age from which on a lease says nothing about the account.
	staleAfter = 10 * time.Second
	// creditShare is the part of what is left for all that a process may accept before it is
	// charged: one of creditShare. So up to that many processes overdraw no account.
	creditShare = 8
	// smallShare is the part of the rate up to which a process accepts entries of a tenant without
	// a word to the store: 1 / smallShare. So tenants with few entries cost no write each.
	smallShare = 20
)

// account is what a process knows about the quota of a tenant.
type account struct {
	mu        sync.Mutex
	allowance int64 // entries that may be accepted before the next lease
	// paid is how many entries were charged and not yet accepted. Below 0 it is how many were
	// accepted and not yet charged.
	paid     int64
	used     int64         // accepted since the last lease
	left     int64         // in the account at leftAt
	leftAt   time.Time     // zero: no lease has said it
	leasedAt time.Time     // when the last lease began; zero: never
	pending  chan struct{} // closed when the lease that is under way ends; nil: none is
	failed   bool          // the last lease failed or takes long: own decides
	own      bucket        // what this process accepted
}

func small(l Limit) int64 { return max(1, min(l.Rate/smallShare, l.Burst/smallShare)) }

// decision is what a request has to do.
type decision int

const (
	accepted decision = iota
	refused
	waits // for pending
)

// take decides about n entries. If startLease is true, the caller starts the lease. waited says
// that the request has waited for a lease already.
func (a *account) take(now time.Time, l Limit, n int64, waited bool) (d decision, startLease bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	age := elapsed(now, a.leasedAt)
	due := a.pending == nil && age >= leasePeriod
	if age >= staleAfter && a.pending == nil {
		a.allowance, a.paid, a.used = small(l)-max(0, -a.paid), min(a.paid, 0), 0
	}
	if a.failed {
		if !a.own.take(now, l, n) {
			return refused, a.begin(due, now)
		}
		a.accept(n)
		return accepted, a.begin(due, now)
	}
	switch {
	case !waited && a.allowance < n && (due || a.pending != nil):
		return waits, a.begin(due, now)
	case a.allowance <= 0:
		return refused, a.begin(due, now)
	}
	a.own.left(now, l)
	a.own.missing += float64(n)
	a.accept(n)
	return accepted, a.begin(due && (-a.paid >= small(l) || a.allowance <= 0), now)
}

// accept counts n entries.
func (a *account) accept(n int64) {
	a.allowance -= n
	a.paid -= n
	a.used += n
}

// begin notes that a lease begins, if begins is true.
func (a *account) begin(begins bool, now time.Time) bool {
	if begins {
		a.pending, a.leasedAt = make(chan struct{}), now
	}
	return begins
}

// order returns what the lease that has begun charges and asks for: as many entries as were
// accepted since the last one.
func (a *account) order(l Limit) (accepted, want int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	accepted = max(0, -a.paid)
	want = a.wanted(l)
	a.used = 0
	return accepted, want
}

// wanted returns how many entries a lease asks for.
func (a *account) wanted(l Limit) int64 {
	return max(0, min(max(a.used, small(l)), l.Rate)-max(0, a.paid))
}

// settle ends the lease. charged is what it charged.
func (a *account) settle(l Limit, charged int64, lease Lease, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.pending)
	a.pending = nil
	if a.failed = err != nil; a.failed {
		a.paid = max(a.paid, -l.Burst) // an outage is not charged as a whole
		return
	}
	a.paid += charged + lease.Granted
	a.left, a.leftAt = lease.Left, a.leasedAt
	a.allowance = max(0, a.paid) + max(0, lease.Left)/creditShare - max(0, -a.paid)
}

// late notes that a request has waited in vain for the lease.
func (a *account) late(pending chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending == pending {
		a.failed = true
	}
}

func (a *account) underWay() chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending
}

// remaining returns how many entries this process can still accept, within which time it can accept
// more, and how long to wait until there is one. It is less than what is left for all processes: a
// process accepts no more than its allowance between two leases.
func (a *account) remaining(now time.Time, l Limit) (entries int64, window, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.own.left(now, l)
	wait = l.time(1 - left)
	window = l.refill(left)
	if a.failed {
		return int64(math.Floor(max(0, left))), window, wait
	}
	if age := elapsed(now, a.leftAt); age < staleAfter {
		shared := min(float64(l.Burst), float64(a.left)+age.Seconds()*float64(l.Rate)) + float64(min(a.paid, 0))
		wait = max(l.time(1-shared), leasePeriod-elapsed(now, a.leasedAt))
		left = min(left, shared)
		window = l.refill(left)
	}
	if own := a.ahead(now, l, left); own < left {
		left, window = own, leasePeriod
	}
	return int64(math.Floor(max(0, left))), window, wait
}

// ahead returns how many entries the process can accept before it has to wait for leasePeriod. If a
// lease is under way or due, that is what it will have then, as settle computes it: what it has now does not count any more.
func (a *account) ahead(now time.Time, l Limit, shared float64) float64 {
	if a.pending == nil && elapsed(now, a.leasedAt) < leasePeriod {
		return float64(a.allowance)
	}
	shared = max(0, shared)
	granted := min(float64(a.wanted(l)), shared)
	return float64(max(0, a.paid)) + granted + (shared-granted)/creditShare
}
