// Package archive keeps a tenant's entries as Parquet files beside the database, in a form that others
// read without Ocelot. Planner finds the days that are to be archived. Runner archives the days of a
// month, as a job. Reader tells which entries are archived.
//
// The files of a month are parts, which are never rewritten, and a manifest that lists them. A part
// counts once the manifest has it. The archive is a set by id: no two parts of a manifest have the
// same entry.
package archive

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// LargeDay is how many entries a day has at least that is archived once it has ended. Smaller days
	// wait for the end of their month, so that they share a part.
	LargeDay = 100_000
	// MaxRows is how many entries a part has at most.
	MaxRows = 500_000
	// PartGrace is how long a part is kept after the longest retention of its entries, and after it was
	// written. Until then retention removes the entries from the database, which asks for the part.
	PartGrace = 14 * oneDay
	// RemovalGrace is how long before its removal a part is marked at least. Until then a longer retention or
	// a legal hold takes the mark back.
	RemovalGrace = 7 * oneDay
	oneDay       = 24 * time.Hour
)

// Blobs stores the files; see export.Blobs.
type Blobs interface {
	Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error
	Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error
	Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, export.Blob, error)
	List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]export.Listed, error)
	Delete(ctx context.Context, tenant audit.TenantID, key string) error
}

// Getter is the part of Blobs that reads.
type Getter interface {
	Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, export.Blob, error)
}

// Store is the system of record.
type Store interface {
	search.IDLister
	search.EntryReader
}

// Tenants finds tenants. It returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// month is the first instant of a month in UTC.
type month struct{ time.Time }

func monthOf(t time.Time) month {
	t = t.UTC()
	return month{time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)}
}

// monthLayout spells a month as the folder of its files does.
const monthLayout = "2006-01"

func parseMonth(text string) (month, error) {
	t, err := time.Parse(monthLayout, text)
	if err != nil {
		return month{}, fmt.Errorf("%q is not a month", text)
	}
	return month{t.UTC()}, nil
}

func (m month) String() string { return m.Format(monthLayout) }

// end returns the first instant of the next month.
func (m month) end() time.Time { return m.AddDate(0, 1, 0) }

// monthPrefix is what the keys of all months begin with.
const monthPrefix = "month="

// folder is what the keys of the month's files begin with. The store puts the tenant before it.
func (m month) folder() string { return monthPrefix + m.String() + "/" }

// The names of files. Athena, Spark and DuckDB pass over names that begin with an underscore when they
// read a folder or a pattern such as part-*.parquet.
const (
	manifestName = "_manifest.json"
	partPrefix   = "part-"
	partSuffix   = ".parquet"
	idsPrefix    = "_ids-"
)

func partName(number int) string { return fmt.Sprintf("%s%06d%s", partPrefix, number, partSuffix) }

func idsName(number int) string { return fmt.Sprintf("%s%06d", idsPrefix, number) }

// numberOf returns the number of a part, or of the ids of one. It returns false for another name.
func numberOf(name string) (int, bool) {
	digits, isIDs := strings.CutPrefix(name, idsPrefix)
	if !isIDs {
		var begins, ends bool
		digits, begins = strings.CutPrefix(name, partPrefix)
		digits, ends = strings.CutSuffix(digits, partSuffix)
		if !begins || !ends {
			return 0, false
		}
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0
}

// settled returns when what came in time before the end of a day or of a month is stored.
func settled(end time.Time) time.Time { return end.Add(activity.ArchiveDelay) }
