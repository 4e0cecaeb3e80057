package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Roll-ups count the entries of a tenant's blocks by hour and by UTC day: in all, and in cells by
// severity, action, resource type and whether the service wrote the entry. Retention depends on
// these too, so that its rules need no other counts. Coarse cells are cells without resource types.
// They are several times fewer, and no rule asks for more. Recent facets are in no roll-up.

// Lengths of time that have roll-ups, in hours.
const (
	hourRollup = 1
	dayRollup  = 24
)

// Limits of a roll-up. A tenant may send more different values. Then the roll-up has no cells,
// and counts by these fields read the blocks of that time. They hold for coarse cells too.
const (
	maxRollupCells = 1024
	maxRollupBytes = 16 << 10
)

// rollupCell is what the entries of a cell have in common.
type rollupCell struct {
	severity, action, resourceType string
	service                        bool
}

func cellOf(row *facetRow) rollupCell {
	return rollupCell{
		severity: row.values[columnSeverity], action: row.values[columnAction], resourceType: row.values[columnResourceType],
		service: row.values[columnSubmittedBy] == audit.SubmittedByService,
	}
}

// coarse returns the coarse cell in which the cell is.
func (c rollupCell) coarse() rollupCell {
	c.resourceType = ""
	return c
}

// rollup counts the entries of one length of time.
type rollup struct {
	entries int64
	coarse  []cellCount // nil: too many
	cells   []cellCount // nil: too many
}

type cellCount struct {
	rollupCell
	n int64
}

const hourMillis = int64(time.Hour / time.Millisecond)

func hourOf(key int64) int64 { return millisOf(key) / hourMillis }

// rollupDeltas are changes of roll-ups, by hour since 1970.
type rollupDeltas map[int64]map[rollupCell]int64

// facetDeltas are changes of what is counted.
type facetDeltas struct {
	hours rollupDeltas
	users userDeltas
}

// addRows counts each row n times.
func (d *facetDeltas) addRows(rows []facetRow, n int64) {
	if d.hours == nil {
		d.hours, d.users = rollupDeltas{}, userDeltas{}
	}
	for i := range rows {
		hour := hourOf(rows[i].key)
		cells := d.hours[hour]
		if cells == nil {
			cells = map[rollupCell]int64{}
			d.hours[hour] = cells
		}
		cells[cellOf(&rows[i])] += n
		day := hour - hour%dayRollup
		users := d.users[day]
		if users == nil {
			users = map[uint64]int64{}
			d.users[day] = users
		}
		users[hashUser(rows[i].values[columnUserID])] += n
	}
}

// days returns the changes by the first hour of their days.
func (d rollupDeltas) days() rollupDeltas {
	days := rollupDeltas{}
	for hour, cells := range d {
		day := hour - hour%dayRollup
		if days[day] == nil {
			days[day] = map[rollupCell]int64{}
		}
		for cell, n := range cells {
			days[day][cell] += n
		}
	}
	return days
}

// applyRollups changes the roll-ups of a tenant.
func (b *batch) applyRollups(tenant int64, hours rollupDeltas) error {
	for length, deltas := range map[int64]rollupDeltas{hourRollup: hours, dayRollup: hours.days()} {
		for _, start := range slices.Sorted(maps.Keys(deltas)) {
			if err := b.applyRollup(tenant, length, start, deltas[start]); err != nil {
				return fmt.Errorf("roll-up of %d hours from hour %d: %w", length, start, err)
			}
		}
	}
	return nil
}

func (b *batch) applyRollup(tenant, length, start int64, changes map[rollupCell]int64) error {
	r, err := b.rollup(tenant, length, start)
	if err != nil {
		return err
	}
	if err := r.change(changes); err != nil {
		return err
	}
	if r.entries == 0 {
		_, err := b.exec(`DELETE FROM rollups WHERE tenant = ? AND hours = ? AND start = ?`, tenant, length, start)
		return err
	}
	_, err = b.exec(`INSERT INTO rollups (tenant, hours, start, entries, coarse_cells, cells) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET entries = excluded.entries, coarse_cells = excluded.coarse_cells, cells = excluded.cells`,
		tenant, length, start, r.entries, encodeCells(r.coarse), encodeCells(r.cells))
	return err
}

// rollup returns a roll-up, which may be without entries yet.
func (b *batch) rollup(tenant, length, start int64) (r rollup, err error) {
	var coarse, cells []byte
	err = b.row(context.Background(), `SELECT entries, coarse_cells, cells FROM rollups WHERE tenant = ? AND hours = ? AND start = ?`,
		[]any{tenant, length, start}, []any{&r.entries, &coarse, &cells})
	if errors.Is(err, sql.ErrNoRows) {
		return rollup{coarse: []cellCount{}, cells: []cellCount{}}, nil
	}
	if err != nil {
		return r, err
	}
	if r.cells, err = parseCells(cells); err != nil {
		return r, err
	}
	r.coarse, err = parseCells(coarse)
	if coarse == nil && cells != nil { // of an older file
		r.coarse, err = changedCells([]cellCount{}, coarseCounts(r.cells))
	}
	return r, err
}

// coarseCounts returns the counts of the coarse cells.
func coarseCounts(cells []cellCount) map[rollupCell]int64 {
	counts := make(map[rollupCell]int64, len(cells))
	for _, cell := range cells {
		counts[cell.coarse()] += cell.n
	}
	return counts
}

// change adds the changes. A roll-up without cells gets none back before it is empty.
func (r *rollup) change(changes map[rollupCell]int64) (err error) {
	coarse := make(map[rollupCell]int64, len(changes))
	for cell, n := range changes {
		r.entries += n
		coarse[cell.coarse()] += n
	}
	if r.entries < 0 {
		return errBadFacets
	}
	if r.coarse, err = changedCells(r.coarse, coarse); err != nil {
		return err
	}
	r.cells, err = changedCells(r.cells, changes)
	return err
}

// changedCells returns the cells after the changes, nil if they are or become too many.
func changedCells(cells []cellCount, changes map[rollupCell]int64) ([]cellCount, error) {
	if cells == nil {
		return nil, nil
	}
	counts := make(map[rollupCell]int64, len(cells)+len(changes))
	for _, cell := range cells {
		counts[cell.rollupCell] = cell.n
	}
	for cell, n := range changes {
		counts[cell] += n
		if counts[cell] < 0 {
			return nil, errBadFacets
		}
	}
	cells = cells[:0]
	for cell, n := range counts {
		if n > 0 {
			cells = append(cells, cellCount{cell, n})
		}
	}
	if len(cells) > maxRollupCells {
		return nil, nil
	}
	return cells, nil
}

// encodeCells returns the different texts of the cells and then the cells, which name them by their
// places. It returns nil if there are no cells or they are too large.
func encodeCells(counts []cellCount) []byte {
	if counts == nil {
		return nil
	}
	places := map[string]uint64{}
	var texts, cells []byte
	place := func(text string) uint64 {
		n, known := places[text]
		if !known {
			n = uint64(len(places))
			places[text] = n
			texts = appendText(texts, text)
		}
		return n
	}
	for _, cell := range counts {
		service := uint64(0)
		if cell.service {
			service = 1
		}
		for _, n := range [...]uint64{place(cell.severity), place(cell.action), place(cell.resourceType), uint64(cell.n)<<1 | service} {
			cells = binary.AppendUvarint(cells, n)
		}
	}
	data := append(binary.AppendUvarint(nil, uint64(len(places))), texts...)
	data = append(binary.AppendUvarint(data, uint64(len(counts))), cells...)
	if len(data) > maxRollupBytes {
		return nil
	}
	return data
}

// cellParser parses the cells of one roll-up after another.
type cellParser struct {
	texts []string
	cells []cellCount
}

func parseCells(data []byte) ([]cellCount, error) { return new(cellParser).parse(data) }

// parse returns cells that are valid until the next call.
func (c *cellParser) parse(data []byte) ([]cellCount, error) {
	if data == nil {
		return nil, nil
	}
	p := parser[string]{text: string(data)}
	c.texts = p.appendParts(c.texts[:0])
	text := func() string {
		n := p.uvarint()
		if n >= uint64(len(c.texts)) {
			p.failed = true
			return ""
		}
		return c.texts[n]
	}
	n := p.count()
	c.cells = slices.Grow(c.cells[:0], n+1)[:n] // never nil
	for i := range c.cells {
		cell := &c.cells[i]
		cell.severity, cell.action, cell.resourceType = text(), text(), text()
		count := p.uvarint()
		cell.service, cell.n = count&1 == 1, int64(count>>1)
	}
	return c.cells, p.end()
}

// Columns of roll-ups that eachRollup reads. Older files have no coarse cells.
const (
	noCells     = `NULL`
	coarseCells = `coalesce(coarse_cells, cells)`
	allCells    = `cells`
)

// eachRollup reads the roll-ups of a length that begin in from ≤ hour < to, with the cells of one of
// these columns. The cells are valid until the next roll-up.
func (c *conn) eachRollup(ctx context.Context, tenant, length, from, to int64, column string, visit func(start, entries int64, cells []cellCount) error) error {
	var start, entries int64
	var data []byte
	var parser cellParser
	return c.each(ctx, `SELECT start, entries, `+column+` FROM rollups WHERE tenant = ? AND hours = ? AND start >= ? AND start < ? ORDER BY start`,
		[]any{tenant, length, from, to}, []any{&start, &entries, &data}, func() (bool, error) {
			cells, err := parser.parse(data)
			if err != nil {
				return false, fmt.Errorf("roll-up of %d hours from hour %d: %w", length, start, err)
			}
			return true, visit(start, entries, cells)
		})
}
