package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// space is a file in which removals left something. A step erases what one of them left.
type space struct {
	removed, erased int64
	steps           int
	beforeStep      func()
	err             error
}

// Pending implements jobs.Space.
func (s *space) Pending(context.Context) (int64, error) {
	if s.erased == s.removed {
		return 0, nil
	}
	return s.removed, nil
}

// Erase implements jobs.Space.
func (s *space) Erase(_ context.Context, removal int64) (bool, error) {
	if s.erased == s.removed || s.erased >= removal {
		return true, nil
	}
	s.steps++
	if s.beforeStep != nil {
		s.beforeStep()
	}
	if s.err != nil {
		return false, s.err
	}
	s.erased++
	return s.erased >= removal, nil
}

// spaceTask is the task of a space, whose messages are kept.
type spaceTask struct {
	*space
	*jobs.FreeSpace
	queue queue
	now   time.Time
}

func newSpaceTask(removed int64) *spaceTask {
	f := &spaceTask{space: &space{removed: removed}, now: epoch}
	f.FreeSpace = &jobs.FreeSpace{Space: f.space, Queue: &f.queue, Now: func() time.Time { return f.now }}
	return f
}

// sent is the next message of the task.
func (f *spaceTask) sent(t *testing.T) jobs.Message {
	t.Helper()
	if len(f.queue.bodies) == 0 {
		t.Fatal("the task was not sent again")
	}
	m, err := jobs.ParseMessage(f.queue.bodies[0])
	if err != nil {
		t.Fatal(err)
	}
	f.queue.bodies = f.queue.bodies[1:]
	return m
}

func (f *spaceTask) do(t *testing.T, m jobs.Message) {
	t.Helper()
	if err := f.Do(t.Context(), m.Tenant, m.Input); err != nil {
		t.Fatal(err)
	}
}

func (f *spaceTask) wantErased(t *testing.T, want int64) {
	t.Helper()
	if f.erased != want {
		t.Errorf("erased up to removal %d, want %d", f.erased, want)
	}
	if n := len(f.queue.bodies); n > 0 {
		t.Errorf("%d more tasks were sent, want none", n)
	}
}

// TestOneTaskErasesFreeSpace: those that come meanwhile end at once, and the one under way erases for them.
func TestOneTaskErasesFreeSpace(t *testing.T) {
	f := newSpaceTask(2)
	f.beforeStep = func() {
		if f.removed >= 4 {
			return
		}
		f.removed++
		steps := f.steps
		f.do(t, jobs.Message{Tenant: audit.TenantID(fmt.Sprint("tenant-", f.removed))})
		if f.steps != steps {
			t.Error("two tasks erase at the same time, want one")
		}
	}
	f.do(t, jobs.Message{Tenant: "acme"})
	f.wantErased(t, 4)
	f.do(t, jobs.Message{Tenant: "acme"})
	f.wantErased(t, 4)
	if f.steps != 4 {
		t.Errorf("took %d steps, want 4", f.steps)
	}
}

// TestFreeSpaceIsErasedInSlices: the next slice waits for no later removal. But a task that ended at once counts on it.
func TestFreeSpaceIsErasedInSlices(t *testing.T) {
	for name, asks := range map[string]bool{"a later removal": false, "the task of a later removal": true} {
		t.Run(name, func(t *testing.T) {
			f := newSpaceTask(3)
			f.beforeStep = func() {
				f.now = f.now.Add(jobs.SliceTime)
				if f.steps == 1 {
					f.removed++
					if asks {
						f.do(t, jobs.Message{Tenant: "globex"})
					}
				}
			}
			f.do(t, jobs.Message{Tenant: "acme"})
			want := int64(3)
			if asks {
				want = 4
			}
			for range want - 1 {
				m := f.sent(t)
				if m.Task != jobs.TaskFreeSpace || m.Tenant != "acme" {
					t.Errorf("sent the task %s of %s, want %s of acme", m.Task, m.Tenant, jobs.TaskFreeSpace)
				}
				f.do(t, m)
			}
			f.wantErased(t, want)
		})
	}
}

// TestATaskThatFailsIsRepeated: it also erases what a task that ended at once counts on.
func TestATaskThatFailsIsRepeated(t *testing.T) {
	f := newSpaceTask(1)
	f.err = errDown
	f.beforeStep = func() {
		f.removed++
		f.do(t, jobs.Message{Tenant: "globex"})
	}
	if err := f.Do(t.Context(), "acme", []byte("1")); !errors.Is(err, errDown) {
		t.Errorf("got error %v, want %v", err, errDown)
	}
	f.err, f.beforeStep = nil, nil
	f.do(t, jobs.Message{Tenant: "acme", Input: []byte("1")})
	f.wantErased(t, 2)
}
