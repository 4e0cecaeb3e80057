package jobs_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// mortal kills a worker before or after one of its calls.
type mortal struct {
	calls, killAt int
	after, dead   bool
}

func (m *mortal) call(do func() error) error {
	m.calls++
	kill := m.calls == m.killAt
	if m.dead || kill && !m.after {
		m.dead = true
		return errDown
	}
	err := do()
	if kill {
		m.dead, err = true, errDown
	}
	return err
}

// mortalJobs are the jobs of a worker that can be killed.
type mortalJobs struct {
	jobs.Store
	*mortal
}

func (m mortalJobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return m.call(func() error { return m.Store.UpdateJob(ctx, job, generation) })
}

// mortalRecords is a store of a worker that can be killed. It knows how many records it has removed.
type mortalRecords struct {
	counted
	*mortal
	removed int64
}

func (m *mortalRecords) Purge(ctx context.Context, tenant audit.TenantID, limit int) (n int, err error) {
	err = m.call(func() error {
		n, err = m.counted.Purge(ctx, tenant, limit)
		m.removed += int64(n)
		return err
	})
	return n, err
}

// TestTheCertificateCountsAfterAKill: the worker is killed before and after each of its calls. Late messages bring
// records after the first pass.
func TestTheCertificateCountsAfterAKill(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for kill := 1; ; kill++ {
			m := &mortal{killAt: kill, after: after}
			p, stores := newCountedPurge(t, m)
			for sent := 0; sent < len(p.queue.bodies); {
				sent = len(p.queue.bodies)
				m.dead = false
				p.now = p.now.Add(p.queue.delays[sent-1])
				_ = p.Handle(t.Context(), p.last()) // what a killed worker returns goes nowhere
				if len(p.queue.bodies) == sent {
					p.plan(t)
				}
			}
			p.checkJob(t, jobs.StateSucceeded, 7005)
			issued := p.certificates.issued
			if len(issued) == 0 {
				t.Fatalf("killed at call %d: no certificate, want one", kill)
			}
			var want []certificate.Place
			for i, name := range []string{"entries", "quarantine"} {
				want = append(want, certificate.Place{Name: name, Removed: stores[i].removed})
			}
			if got := issued[len(issued)-1].Places; !slices.Equal(got, want) {
				t.Errorf("killed at call %d (after it: %t): the certificate has %v, want %v", kill, after, got, want)
			}
			if m.calls < kill {
				break
			}
		}
	}
}

// newCountedPurge returns a purge of two stores that count their records.
func newCountedPurge(t *testing.T, m *mortal) (*purge, []*mortalRecords) {
	t.Helper()
	p := newPurge(t)
	p.Store = mortalJobs{p.db.Jobs(), m}
	var stores []*mortalRecords
	p.Stores = nil
	for _, s := range []struct {
		name    string
		records int
	}{{"entries", 7000}, {"quarantine", 3}} {
		store := &mortalRecords{counted: counted{&records{byTenant: map[audit.TenantID]int{"acme": s.records}}}, mortal: m}
		stores = append(stores, store)
		p.Stores = append(p.Stores, jobs.NamedPurger{Name: s.name, Purger: store})
	}
	late := false
	p.DrainPeriod = time.Minute
	p.TenantPurge.Clock = func(context.Context) (time.Time, error) {
		if !late { // the first pass has ended
			late = true
			stores[0].byTenant["acme"] += 5
			stores[1].byTenant["acme"] += 2
		}
		return p.now, nil
	}
	return p, stores
}
