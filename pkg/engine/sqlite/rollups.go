package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Roll-ups count the entries of a tenant's blocks by hour and by UTC day: in all, and in cells by
// severity, action, resource type and whether the service wrote the entry. Retention depends on
// these too, so that its rules need no other counts. Recent facets are in no roll-up.

// Lengths of time that have roll-ups, in hours.
const (
	hourRollup = 1
	dayRollup  = 24
)

// Limits of a roll-up. A tenant may send more different values. Then the roll-up has no cells,
// and counts by these fields read the blocks of that time.
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

// rollup counts the entries of one length of time.
type rollup struct {
	entries int64
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
	r := rollup{cells: []cellCount{}}
	err := b.eachRollup(context.Background(), tenant, length, start, start+1, true, func(_ int64, stored rollup) error {
		r = stored
		return nil
	})
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
	_, err = b.exec(`INSERT INTO rollups (tenant, hours, start, entries, cells) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET entries = excluded.entries, cells = excluded.cells`, tenant, length, start, r.entries, r.encode())
	return err
}

// change adds the changes. A roll-up without cells gets none back before it is empty.
func (r *rollup) change(changes map[rollupCell]int64) error {
	counts := make(map[rollupCell]int64, len(r.cells)+len(changes))
	for _, cell := range r.cells {
		counts[cell.rollupCell] = cell.n
	}
	for cell, n := range changes {
		r.entries += n
		counts[cell] += n
		if counts[cell] < 0 && r.cells != nil {
			return errBadFacets
		}
	}
	if r.entries < 0 {
		return errBadFacets
	}
	if r.cells == nil {
		return nil
	}
	r.cells = r.cells[:0]
	for cell, n := range counts {
		if n > 0 {
			r.cells = append(r.cells, cellCount{cell, n})
		}
	}
	if len(r.cells) > maxRollupCells {
		r.cells = nil
	}
	return nil
}

// encode returns the different texts of the cells and then the cells, which name them by their
// places. It returns nil if there are no cells or they are too large.
func (r *rollup) encode() []byte {
	if r.cells == nil {
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
	for _, cell := range r.cells {
		service := uint64(0)
		if cell.service {
			service = 1
		}
		for _, n := range [...]uint64{place(cell.severity), place(cell.action), place(cell.resourceType), uint64(cell.n)<<1 | service} {
			cells = binary.AppendUvarint(cells, n)
		}
	}
	data := append(binary.AppendUvarint(nil, uint64(len(places))), texts...)
	data = append(binary.AppendUvarint(data, uint64(len(r.cells))), cells...)
	if len(data) > maxRollupBytes {
		return nil
	}
	return data
}

func parseCells(data []byte) ([]cellCount, error) {
	if data == nil {
		return nil, nil
	}
	p := parser[string]{text: string(data)}
	texts := p.appendParts(nil)
	text := func() string {
		n := p.uvarint()
		if n >= uint64(len(texts)) {
			p.failed = true
			return ""
		}
		return texts[n]
	}
	n := p.count()
	cells := make([]cellCount, n)
	for i := range cells {
		cell := &cells[i]
		cell.severity, cell.action, cell.resourceType = text(), text(), text()
		count := p.uvarint()
		cell.service, cell.n = count&1 == 1, int64(count>>1)
	}
	return cells, p.end()
}

// eachRollup reads the roll-ups of a length that begin in from ≤ hour < to, with or without
// their cells.
func (c *conn) eachRollup(ctx context.Context, tenant, length, from, to int64, cells bool, visit func(start int64, r rollup) error) error {
	query := `SELECT start, entries, NULL FROM rollups WHERE tenant = ? AND hours = ? AND start >= ? AND start < ? ORDER BY start`
	if cells {
		query = `SELECT start, entries, cells FROM rollups WHERE tenant = ? AND hours = ? AND start >= ? AND start < ? ORDER BY start`
	}
	var start int64
	var r rollup
	var data []byte
	return c.each(ctx, query, []any{tenant, length, from, to}, []any{&start, &r.entries, &data}, func() (bool, error) {
		var err error
		if r.cells, err = parseCells(data); err != nil {
			return false, fmt.Errorf("roll-up of %d hours from hour %d: %w", length, start, err)
		}
		return true, visit(start, r)
	})
}
