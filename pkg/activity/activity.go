// Package activity is the register of active days: on which days a tenant's entries were
// received, and the days of their timestamps. Nothing scheduled has to ask every tenant:
// it reads here what there is to do. Plan shares out the days that are due, and Task does the
// work of those in one message.
package activity

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Work is a kind of work on days. Each kind has its own records of a day.
type Work string

const (
	// Index compares the index with the system of record. It has a record for each day of
	// timestamps.
	Index Work = "index"
	// Places compares the arrival log with the system of record. It has a record for each
	// Receipt.
	Places Work = "places"
	// Prune removes old parts of the arrival log. It has one record for each tenant.
	Prune Work = "prune"
	// Retain removes entries that have expired. It has a record for each day of timestamps.
	Retain Work = "retain"
	// Archive archives entries. It has a record for each day of timestamps.
	Archive Work = "archive"
)

// ArchiveDelay is how long after its end a day is archived. Entries that come on time are stored by then.
const ArchiveDelay = 3 * time.Hour

// freshTime is how long after its beginning all entries of a day can have expired: the day itself,
// and the shortest retention, which is a day.
const freshTime = 48 * time.Hour

// IsDueOnTouch reports whether a touch makes a day due that was checked. Otherwise a touch only
// adds the record.
func (w Work) IsDueOnTouch() bool { return w != Prune }

// Receipt is a day on which entries of a tenant were received, and the day of their timestamps.
// Both are the beginning of the day in UTC.
type Receipt struct {
	Received, Day time.Time
}

// ReceiptOf returns the receipt of an entry.
func ReceiptOf(e *audit.Entry) Receipt { return Receipt{dayOf(e.ReceivedAt), dayOf(e.Timestamp)} }

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(oneDay) }

const oneDay = 24 * time.Hour

// Day is the record of a tenant's day for one kind of work. The days that the kind does not
// tell apart are zero.
type Day struct {
	Work   Work
	Tenant audit.TenantID
	Receipt
	// Touches counts how often the day was touched. It shows whether entries have come
	// between the reading of the record and its change.
	Touches int64
	// Checks counts the checks since the last touch that found nothing to do.
	Checks int
	// Claimed is until when the day was claimed last. It tells the claims of a day apart. Zero: the day was not
	// claimed since its last check.
	Claimed time.Time
	// Progress and Until are those of a task. Registers do not keep them.
	Progress
	// Until is when the check has to come to an end, done or not. Zero: it has time.
	Until time.Time
}

// TimeUp reports whether the check has to come to an end.
func (d *Day) TimeUp(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }

// Progress is what the steps of a check that stops and goes on leave to the next one. Zero: the check begins.
type Progress struct {
	// Began is when the first step began.
	Began time.Time `json:"began,omitzero"`
	// After is the id of the last entry that is done, and AfterItem that of the last item of the quarantine.
	After     audit.EntryID `json:"after,omitzero"`
	AfterItem string        `json:"after_item,omitempty"`
	// State is what the check has found so far, in a form of its own.
	State string `json:"state,omitempty"`
	// Wake is when the day is due again at the latest because of what was done; zero: nothing needs that.
	Wake time.Time `json:"wake,omitzero"`
}

// DueOnTouch returns when a touch makes the day due, which asks for a time. A day is not due for
// Retain before all entries of it can have expired. So only late entries cost a check. For Archive it is
// due after its end, and after the end of the day on which late entries come. So a day with late entries
// is archived once a day.
func (d *Day) DueOnTouch(asked time.Time) time.Time {
	switch earliest := d.Day.Add(freshTime); {
	case d.Work == Retain && asked.Before(earliest):
		return earliest
	case d.Work == Archive && asked.Before(d.Day):
		return NextArchive(d.Day)
	case d.Work == Archive:
		return NextArchive(asked)
	}
	return asked
}

// NextArchive returns when what comes at a time is archived: ArchiveDelay after the end of the day.
func NextArchive(t time.Time) time.Time { return dayOf(t).Add(oneDay + ArchiveDelay) }

// Days returns the records, without their counts, that a touch of the receipts concerns.
func Days(tenant audit.TenantID, receipts []Receipt) []Day {
	var days []Day
	type record struct {
		work Work
		Receipt
	}
	added := make(map[record]bool, 5*len(receipts))
	add := func(work Work, r Receipt) {
		if key := (record{work, r}); !added[key] {
			added[key] = true
			days = append(days, Day{Work: work, Tenant: tenant, Receipt: r})
		}
	}
	for _, r := range receipts {
		add(Index, Receipt{Day: r.Day})
		add(Places, r)
		add(Prune, Receipt{})
		add(Retain, Receipt{Day: r.Day})
		add(Archive, Receipt{Day: r.Day})
	}
	return days
}

// Register stores the records of days.
type Register interface {
	// Touch registers receipts of entries that are about to be stored. Their days are due at
	// the given time, or at an earlier time that they have. So a busy day is checked too. See
	// Work.IsDueOnTouch and Day.DueOnTouch.
	Touch(ctx context.Context, tenant audit.TenantID, receipts []Receipt, due time.Time) error
	// TouchAll touches the records that the tenant has for one kind of work. They are due at the
	// given time, or at an earlier time that they have. For Archive it adds the days that the tenant has
	// for Retain: a version that did not archive has registered them so.
	TouchAll(ctx context.Context, work Work, tenant audit.TenantID, due time.Time) error
	// DueDays returns up to limit days that are due at a time, those that wait longest first.
	DueDays(ctx context.Context, work Work, at time.Time, limit int) ([]Day, error)
	// Claim puts off days until a time, so that nobody else shares them out before. A day whose last claim is not
	// day.Claimed stays as it is, because somebody else has it. So does a day that is due later, and one that is not
	// due. A touch before or after it counts.
	Claim(ctx context.Context, days []Day, until time.Time) error
	// DueAt returns when a day is due, and its last claim; see Day.Claimed. A zero due means: not before the day is
	// touched, or it is not registered.
	DueAt(ctx context.Context, day Day) (due, claimed time.Time, err error)
	// Check notes that a day was checked, unless it was touched since it was read, or its last claim is not
	// day.Claimed. It stores day.Checks and when the day is due again, and ends the claim. A zero time means: not
	// before it is touched.
	Check(ctx context.Context, day Day, due time.Time) error
}
