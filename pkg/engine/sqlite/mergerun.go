package sqlite

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

const (
	// carriedAtOnce is the number of removals that one operation carries over to a merge's result.
	carriedAtOnce = 2000
	// mergePages is the number of pages of a merge that are kept in memory until they are written.
	mergePages = 64
)

// errReplaced says that the segments of a merge are not in use any more, because a writer has merged
// them itself, or that another process has removed the unfinished one because the lease had expired.
var errReplaced = errors.New("the segments of a merge are not there any more")

// merge replaces segments by one. After an error it leaves an unfinished segment, which removeRest removes.
func (m *merger) merge(ctx context.Context, inputs []segmentRow, snapshot *postings.Snapshot, level int) error {
	running := &mergeRun{merger: m, ctx: ctx, inputs: inputs, level: level}
	err := running.run(snapshot)
	if errors.Is(err, errReplaced) {
		return nil
	}
	return err
}

// mergeRun is a merge.
type mergeRun struct {
	*merger
	ctx    context.Context
	inputs []segmentRow
	level  int

	output   postings.Info
	unstored []mergedPage
	carried  [][]uint64 // for each input: the removed documents that the output lacks, or has as removed
	complete bool
}

type mergedPage struct {
	number int
	data   []byte
}

func (r *mergeRun) run(snapshot *postings.Snapshot) error {
	whole := 0
	for i := range r.inputs {
		whole += r.inputs[i].Docs - r.inputs[i].removed
		r.carried = append(r.carried, snapshot.Segments[i].Removed)
	}
	if whole == 0 {
		return r.step(r.ctx, func(b *batch, _ int) error {
			if err := b.stillInUse(r.inputs); err != nil {
				return err
			}
			return b.retire(r.inputs)
		})
	}
	var number int64
	err := r.step(r.ctx, func(b *batch, _ int) (err error) {
		if err := b.stillInUse(r.inputs); err != nil {
			return err
		}
		number, err = b.insertSegment(segmentUnfinished, r.kind, &postings.Info{Level: r.level})
		return err
	})
	if err != nil {
		return err
	}
	r.output.Number = number
	snapshot.Source = heldPages{segmentPages{&r.conn}, r}
	if r.kind == mergesOthers {
		snapshot.Cache = nil // large segments would fill it
	}
	info, err := snapshot.Merge(r.ctx, r.add)
	snapshot.Source = segmentPages{&r.conn} // from now on the writer reads
	if errors.Is(err, postings.ErrDamaged) {
		if used, usedErr := r.conn.inUse(r.ctx, r.inputs); usedErr != nil || !used {
			return cmp.Or(usedErr, errReplaced) // their pages are gone
		}
	}
	if err == nil {
		err = r.store(0)
	}
	if err == nil {
		info.Number, info.Level = number, r.level
		r.output = info
	}
	for err == nil && !r.complete {
		err = r.finish(snapshot)
	}
	return err
}

// heldPages are the pages of the inputs of a merge that may read for long without writing, if most documents
// are removed. It implements postings.Source.
type heldPages struct {
	segmentPages
	run *mergeRun
}

// Page implements postings.Source. It prolongs the lease of a shared file if that is necessary.
func (p heldPages) Page(ctx context.Context, segment int64, page int) ([]byte, error) {
	if p.run.db.shared && time.Since(p.run.heldAt) > prolongAfter {
		err := p.run.step(ctx, func(b *batch, _ int) error { return b.stillUnfinished(p.run.output.Number) })
		if err != nil {
			return nil, err
		}
	}
	return p.segmentPages.Page(ctx, segment, page)
}

// add stores a page of the output soon.
func (r *mergeRun) add(page int, data []byte) error {
	r.unstored = append(r.unstored, mergedPage{page, data})
	return r.store(mergePages - 1)
}

// store stores pages, unless there are at most so many.
func (r *mergeRun) store(most int) error {
	if len(r.unstored) <= most {
		return nil
	}
	for len(r.unstored) > 0 {
		n := 0
		err := r.step(r.ctx, func(b *batch, parts int) error {
			if err := b.stillUnfinished(r.output.Number); err != nil {
				return err
			}
			n = min(parts, len(r.unstored))
			for _, page := range r.unstored[:n] {
				if err := b.insertPage(r.output.Number, page.number, page.data); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.unstored = slices.Delete(r.unstored, 0, n)
	}
	return nil
}

// finish carries removals over that came during the merge. After the last of them it makes the output
// visible and retires the inputs.
func (r *mergeRun) finish(snapshot *postings.Snapshot) error {
	var carried [][]uint64
	complete := false
	err := r.step(r.ctx, func(b *batch, _ int) (err error) {
		if err := b.stillInUse(r.inputs); err != nil {
			return err
		}
		if err := b.stillUnfinished(r.output.Number); err != nil {
			return err
		}
		if carried, complete, err = r.carryOver(b, snapshot); err != nil || !complete {
			return err
		}
		if err := b.finishSegment(&r.output); err != nil {
			return err
		}
		return b.retire(r.inputs)
	})
	if err == nil {
		r.carried, r.complete = carried, complete
	}
	return err
}

// carryOver marks documents of the output as removed that were removed from the inputs. It reports
// whether that were all.
func (r *mergeRun) carryOver(b *batch, snapshot *postings.Snapshot) (carried [][]uint64, all bool, err error) {
	ctx := context.Background()
	var keys []int64
	carried = slices.Clone(r.carried)
	for i := range r.inputs {
		row := r.inputs[i]
		if row.removed, err = b.removedCount(row.Number); err != nil {
			return nil, false, err
		}
		current, err := b.removedDocs(ctx, nil, &row)
		if err != nil {
			return nil, false, err
		}
		ordinals, next := newlySet(r.carried[i], current, carriedAtOnce-len(keys))
		if len(ordinals) == 0 {
			continue
		}
		found, err := snapshot.KeysOf(ctx, snapshot.Segments[i], ordinals)
		if err != nil {
			return nil, false, err
		}
		keys, carried[i] = append(keys, found...), next
	}
	if len(keys) == 0 {
		return carried, true, nil
	}
	slices.Sort(keys)
	output := segmentRow{Info: r.output}
	if output.removed, err = b.removedCount(output.Number); err != nil {
		return nil, false, err
	}
	written := &postings.Snapshot{Source: segmentPages{b.conn}}
	ordinals, err := written.Find(ctx, postings.Segment{Info: r.output}, keys)
	if err != nil {
		return nil, false, err
	}
	if slices.Contains(ordinals, -1) {
		return nil, false, postings.ErrDamaged
	}
	return carried, len(keys) < carriedAtOnce, b.markRemoved(&output, ordinals)
}

// newlySet returns the first bits of after that are not set in before, up to a number of them, and before
// with these.
func newlySet(before, after []uint64, most int) (found []int, next []uint64) {
	next = make([]uint64, len(after))
	copy(next, before)
	for i, word := range after {
		for word &^= next[i]; word != 0 && len(found) < most; word &= word - 1 {
			found = append(found, 64*i+bits.TrailingZeros64(word))
		}
	}
	for _, bit := range found {
		next[bit/64] |= 1 << (bit % 64)
	}
	return found, next
}

func (b *batch) removedCount(segment int64) (n int, err error) {
	err = b.row(context.Background(), `SELECT removed FROM segments WHERE number = ?`, []any{segment}, []any{&n})
	return n, err
}

// stillInUse returns errReplaced unless the segments are in use.
func (b *batch) stillInUse(rows []segmentRow) error {
	used, err := b.inUse(context.Background(), rows)
	if err == nil && !used {
		return unchanged(errReplaced)
	}
	return err
}

func (c *conn) inUse(ctx context.Context, rows []segmentRow) (bool, error) {
	for i := range rows {
		used, err := c.int64(ctx, `SELECT count(*) FROM segments WHERE number = ? AND state = 1`, rows[i].Number)
		if err != nil || used == 0 {
			return false, err
		}
	}
	return true, nil
}

// stillUnfinished returns errReplaced unless a segment is unfinished.
func (b *batch) stillUnfinished(number int64) error {
	n, err := b.int64(context.Background(), `SELECT count(*) FROM segments WHERE number = ? AND state = 0`, number)
	if err == nil && n == 0 {
		return unchanged(errReplaced)
	}
	return err
}
