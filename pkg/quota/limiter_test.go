package quota_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// accounts is a strict store in memory. Its clock is that of the test.
type accounts struct {
	mu       sync.Mutex
	accounts map[audit.TenantID]quota.Account
	leases   int
	delay    time.Duration
	err      error
}

func (s *accounts) Lease(ctx context.Context, tenant audit.TenantID, limit quota.Limit, accepted, want int64) (quota.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases++
	if s.delay > 0 {
		s.mu.Unlock()
		time.Sleep(s.delay)
		s.mu.Lock()
	}
	if s.err != nil {
		return quota.Lease{}, s.err
	}
	if s.accounts == nil {
		s.accounts = map[audit.TenantID]quota.Account{}
	}
	var lease quota.Lease
	s.accounts[tenant], lease = s.accounts[tenant].Lease(limit, time.Now().UnixMicro(), accepted, want)
	return lease, nil
}

func (s *accounts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases
}

// process returns the Limiter of a process whose clock is off by skew.
func (s *accounts) process(limits quota.Limits, skew time.Duration) *quota.Limiter {
	return quota.NewLimiter(limits, s, func() time.Time { return time.Now().Add(skew) }, slog.New(slog.DiscardHandler))
}

var acme = &audit.Tenant{ID: "acme"}

// take sends n entries and reports whether they were accepted.
func take(t *testing.T, l *quota.Limiter, n int) bool {
	t.Helper()
	_, err := l.Take(t.Context(), acme, "key:1", n)
	if exceeded := new(quota.ExceededError); err != nil && !errors.As(err, &exceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func TestProcessesShareAQuota(t *testing.T) {
	limits := quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 5000}}
	for name, skews := range map[string][]time.Duration{
		"one process":               {0},
		"two processes":             {0, 0},
		"clocks a day off":          {24 * time.Hour, -24 * time.Hour},
		"eight processes":           make([]time.Duration, 8),
		"one of them sends nothing": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store accounts
				var senders []*quota.Limiter
				for _, skew := range skews {
					senders = append(senders, store.process(limits, skew))
				}
				if name == "one of them sends nothing" { // it dies with a part of the quota
					take(t, senders[1], 1000)
					senders = senders[:1]
				}
				const seconds = 60
				var sent int64
				for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					for _, s := range senders {
						if take(t, s, 20) {
							sent += 20
						}
					}
				}
				synctest.Wait()
				quotaOf := seconds*limits.Standard.Rate + limits.Standard.Burst
				if most := quotaOf + 2000; sent > most {
					t.Errorf("sent %d entries in a minute, want at most %d", sent, most)
				}
				if least := quotaOf * 9 / 10; sent < least {
					t.Errorf("sent %d entries in a minute, want at least %d", sent, least)
				}
				if most := len(skews) * (seconds + 1); store.count() > most {
					t.Errorf("asked the store %d times, want at most %d", store.count(), most)
				}
			})
		})
	}
}

func TestALargeBulkIsPossibleAndIsPaidFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 10, Burst: 20}}, 0)
		sent := 0
		for range 10 * 60 {
			if take(t, l, 1000) {
				sent += 1000
			}
			time.Sleep(time.Second)
		}
		if least, most := 5000, 8000; sent < least || sent > most { // 10 minutes at 10/s, and one bulk more
			t.Errorf("sent %d entries in bulks larger than the burst, want %d to %d", sent, least, most)
		}
	})
}

func TestFewEntriesCostTheStoreNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 10_000}}, 0)
		for i := range 500 {
			if !take(t, l, 1) {
				t.Errorf("entry %d was refused, want it accepted", i)
			}
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		if most := 500/50 + 1; store.count() > most {
			t.Errorf("asked the store %d times for 500 entries, want at most %d", store.count(), most)
		}
	})
}

func TestAStoreThatIsDownOrSlowStopsNobody(t *testing.T) {
	for name, store := range map[string]*accounts{"down": {err: errors.New("no server")}, "slow": {delay: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 5000}}
				l := store.process(limits, 0)
				begun := time.Now()
				for i := range 5 {
					if !take(t, l, 1000) {
						t.Errorf("bulk %d was refused, want it accepted", i)
					}
				}
				if waited, most := time.Since(begun), 250*time.Millisecond; waited > most {
					t.Errorf("five bulks waited %v for the store, want at most %v", waited, most)
				}
				take(t, l, 1000) // it may overdraw the quota
				if take(t, l, 1000) {
					t.Error("accepted two bulks more than the burst, want the process to refuse one")
				}
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

func TestAnOutageIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &accounts{err: errors.New("no server")}
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 100, Burst: 1000}}, 0)
		for range 600 {
			take(t, l, 100)
			time.Sleep(time.Second)
		}
		store.mu.Lock()
		store.err = nil
		store.mu.Unlock()
		sent := 0
		for range 60 {
			if take(t, l, 100) {
				sent++
			}
			time.Sleep(time.Second)
		}
		if least := 45; sent < least {
			t.Errorf("accepted %d of 60 seconds after an outage, want at least %d", sent, least)
		}
	})
}

// TestTheFirstAnswerTellsWhatIsLeft: the process may then accept what it leases, 1, and an eighth of
// the rest.
func TestTheFirstAnswerTellsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := accounts{delay: 10 * time.Millisecond} // the lease ends after the answer
		limiter := store.process(quota.Limits{Standard: quota.Limit{Rate: 5, Burst: 50}}, 0)
		for _, want := range []int64{7, 6} {
			states, err := limiter.Take(t.Context(), acme, "key:1", 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := states[0].Left; got != want {
				t.Errorf("got %d entries left, want %d", got, want)
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
	})
}

// TestWhatIsLeftIsAcceptedAtOnce: a client may send what an answer says is left, also in many requests.
func TestWhatIsLeftIsAcceptedAtOnce(t *testing.T) {
	for _, first := range []int{1, 30, 950, 5000, 12_000} {
		for _, pause := range []time.Duration{0, 300 * time.Millisecond, time.Second, 5 * time.Second, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				var store accounts
				l := store.process(quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 10_000}}, 0)
				for range 20 {
					states, err := l.Take(t.Context(), acme, "key:1", first)
					if exceeded := new(quota.ExceededError); errors.As(err, &exceeded) {
						time.Sleep(exceeded.RetryAfter)
						continue
					}
					synctest.Wait() // until the lease has ended that the request began
					left := states[0].Left
					if states[0].Reset < time.Second {
						t.Errorf("%d entries are left within %v, want at least a second", left, states[0].Reset)
					}
					for sent := int64(0); sent < left; sent += 10 {
						if n := int(min(10, left-sent)); !take(t, l, n) {
							t.Fatalf("after a request of %d: of %d entries that were left %d were accepted, want all", first, left, sent)
						}
					}
					time.Sleep(pause)
				}
				synctest.Wait()
			})
		}
	}
}

func TestARefusalSaysWhenToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 100, Burst: 1000}}, 0)
		var exceeded *quota.ExceededError
		for range 100 {
			states, err := l.Take(t.Context(), acme, "key:1", 1000)
			if errors.As(err, &exceeded) {
				if states[0].Left != 0 {
					t.Errorf("a refusal says that %d entries are left, want 0", states[0].Left)
				}
				break
			}
		}
		if exceeded == nil {
			t.Fatal("100 bulks were accepted, want a refusal")
		}
		for tries := 1; ; tries++ {
			time.Sleep(exceeded.RetryAfter)
			_, err := l.Take(t.Context(), acme, "key:1", 1)
			if err == nil {
				break
			}
			if !errors.As(err, &exceeded) {
				t.Fatal(err)
			}
			if tries == 3 {
				t.Fatalf("refused %d times after Retry-After, want it accepted", tries)
			}
		}
	})
}

func TestCredentialsHaveTheirOwnQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		l := store.process(quota.Limits{Credential: quota.Limit{Rate: 10, Burst: 100}}, 0)
		send := func(credential string) error {
			_, err := l.Take(t.Context(), acme, credential, 100)
			return err
		}
		if err := send("key:1"); err != nil {
			t.Errorf("the first bulk returned %v, want it accepted", err)
		}
		var exceeded *quota.ExceededError
		if err := send("key:1"); !errors.As(err, &exceeded) || exceeded.Policy != quota.CredentialPolicy {
			t.Errorf("the second bulk returned %v, want the credential's quota to be exceeded", err)
		}
		if err := send("key:2"); err != nil {
			t.Errorf("another credential's bulk returned %v, want it accepted", err)
		}
		if store.count() != 0 {
			t.Errorf("asked the store %d times, want 0: no tenant has a limit", store.count())
		}
		for i := range 100_000 { // hostile
			if err := send("sub:" + strconv.Itoa(i)); err != nil {
				t.Fatalf("credential %d: %v, want it accepted", i, err)
			}
		}
	})
}

func TestARefusedTenantCostsTheCredentialNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		limits := quota.Limits{Standard: quota.Limit{Rate: 1, Burst: 100}, Credential: quota.Limit{Rate: 1, Burst: 1000}}
		l := store.process(limits, 0)
		for range 200 {
			take(t, l, 100)
		}
		states, err := l.Take(t.Context(), acme, "key:1", 1)
		var exceeded *quota.ExceededError
		if !errors.As(err, &exceeded) || exceeded.Policy != quota.TenantPolicy {
			t.Fatalf("the next entry returned %v, want the tenant's quota to be exceeded", err)
		}
		if got, least := states[1].Left, int64(700); got < least {
			t.Errorf("the credential has %d entries left, want at least %d", got, least)
		}
	})
}

func TestTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 10, Burst: 100}, Priority: quota.Limit{Rate: 1000, Burst: 10_000}}, 0)
		priority := &audit.Tenant{ID: "vip", Settings: audit.Settings{Tier: audit.TierPriority}}
		for tenant, want := range map[*audit.Tenant]int64{acme: 100, priority: 10_000} {
			states, err := l.Take(t.Context(), tenant, "key:1", 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := states[0].Limit.Burst; got != want {
				t.Errorf("%s has a burst of %d, want %d", tenant.ID, got, want)
			}
		}
	})
}

// TestAFloodDoesNotFillTheBacklog: nothing is stored for a day, while a tenant sends as much as
// it may and another one little. The first is refused, the other never.
func TestAFloodDoesNotFillTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const step, maxWaiting, quietEach = time.Second, 50_000_000, 30 // messages; entries of a step
		limit := quota.Limit{Rate: 1000, Burst: 5000}
		var store accounts
		waiting, sent := 0, 0
		l := store.process(quota.Limits{Standard: limit}, 0).WithBacklog(backlog{fill: func() float64 { return float64(waiting) / maxWaiting }})
		quiet := &audit.Tenant{ID: "quiet"}
		for range 24 * time.Hour / step {
			for take(t, l, 1000) {
				waiting, sent = waiting+1000, sent+1000
			}
			if _, err := l.Take(t.Context(), quiet, "key:2", quietEach); err != nil {
				t.Fatalf("at a fill of %.3f the quiet tenant got %v, want no error", float64(waiting)/maxWaiting, err)
			}
			waiting += quietEach
			time.Sleep(step)
		}
		if waiting >= maxWaiting {
			t.Errorf("%d messages wait after a day, want under %d", waiting, maxWaiting)
		}
		if most := int(24 * time.Hour / time.Second * 1000); sent > most*6/10 {
			t.Errorf("the flood sent %d entries, want at most 0.6 of its quota of %d", sent, most)
		}
		if sent < maxWaiting/2 {
			t.Errorf("the flood sent %d entries, want at least %d: up to half of the backlog it has its quota", sent, maxWaiting/2)
		}
		waiting = 0
		time.Sleep(time.Minute)
		_, err := l.Take(t.Context(), acme, "key:1", 1)
		if err != nil {
			t.Errorf("once the backlog is gone, an entry got %v, want no error", err)
		}
	})
}

// backlog is one that is as full as fill returns. check nil: it never refuses.
type backlog struct {
	fill  func() float64
	check func() error
}

func (b backlog) Fill() float64 { return b.fill() }

func (b backlog) Check(context.Context) error {
	if b.check == nil {
		return nil
	}
	return b.check()
}

// TestAFullBacklogRefusesBeforeTheQuotas: its error is not that of a quota, which no tenant has
// left while the backlog is full. Requests that a quota refuses are checked too.
func TestAFullBacklogRefusesBeforeTheQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store accounts
		checks, full := 0, error(nil)
		l := store.process(quota.Limits{Standard: quota.Limit{Rate: 1, Burst: 1}}, 0).WithBacklog(backlog{
			fill:  func() float64 { return 1 },
			check: func() error { checks++; return full },
		})
		var exceeded *quota.ExceededError
		for range 10 {
			_, _ = l.Take(t.Context(), acme, "key:1", 1)
		}
		if _, err := l.Take(t.Context(), acme, "key:1", 1); !errors.As(err, &exceeded) {
			t.Fatalf("over the quota: got error %v, want an ExceededError", err)
		}
		full = &audit.UnavailableError{Err: errors.New("full")}
		if _, err := l.Take(t.Context(), acme, "key:1", 1); !errors.Is(err, full) {
			t.Errorf("over the quota, the backlog full: got error %v, want %v", err, full)
		}
		if want := 12; checks != want {
			t.Errorf("got %d checks, want %d", checks, want)
		}
	})
}

// TestALargeBacklogLowersTheQuotaThatAnswersTell also without a store.
func TestALargeBacklogLowersTheQuotaThatAnswersTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			fill float64
			rate int64
		}{{0, 1000}, {0.5, 1000}, {0.75, 500}, {0.95, 100}, {1, 1}} {
			store := accounts{err: errors.New("down")}
			l := store.process(quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 5000}}, 0).WithBacklog(backlog{fill: func() float64 { return c.fill }})
			states, err := l.Take(t.Context(), acme, "key:1", 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := states[0].Limit.Rate; got < c.rate-1 || got > c.rate {
				t.Errorf("at a fill of %v the rate is %d, want %d", c.fill, got, c.rate)
			}
		}
	})
}
