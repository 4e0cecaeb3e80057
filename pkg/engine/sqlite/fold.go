package sqlite

import (
	"context"
	"math"
	"slices"
	"sort"
)

// foldLimits bound the work of moving recent facets into blocks.
type foldLimits struct {
	// at is the number of new rows of a tenant after which they are moved. For tenants whose numbers differ it
	// is up to half as many more, so that those that are served in turn are not due at the same time.
	at int
	// rows is the number of rows that one step reads, and rewrites of the blocks that it writes.
	// A step takes about 20 ms at most.
	rows, rewrites int
	// least is the number of rows below which a block is not rewritten. Rows that are far from
	// each other stay recent until others of their time arrive, so that entries in a random order
	// cost a bounded amount of writing.
	least int
	// tenants is how many tenants one flush does a step for. Others are due again with their next rows.
	tenants int
}

var defaultFolds = foldLimits{at: 1024, rows: 4096, rewrites: 16, least: 32, tenants: 4}

// due is the number of new rows of a tenant after which they are moved.
func (l *foldLimits) due(tenant int64) int { return l.at + int(tenant%int64(l.at/2+1)) }

// folding is what the writer knows of the recent facets of a tenant.
type folding struct {
	added int   // rows since the last step, about
	from  int64 // the key from which the next step reads
}

// noteRecent counts new rows of recent_facets. flush moves them if they are enough.
func (b *batch) noteRecent(tenant int64, rows int) error {
	f, due := b.writer.foldings[tenant], b.writer.folds.due(tenant)
	if f == nil {
		// An earlier process may have left some.
		n, err := b.int64(context.Background(), `SELECT count(*) FROM (SELECT 1 FROM recent_facets WHERE tenant = ? LIMIT ?)`, tenant, due)
		if err != nil {
			return err
		}
		f = &folding{added: int(n), from: math.MinInt64}
		b.writer.foldings[tenant] = f
	} else {
		f.added += rows
	}
	if f.added >= due && len(b.folds) < b.writer.folds.tenants && !slices.Contains(b.folds, tenant) {
		b.folds = append(b.folds, tenant)
	}
	return nil
}

// foldRecent moves the recent facets of the tenants that have enough of them.
func (b *batch) foldRecent() error {
	for _, tenant := range b.folds {
		if err := b.fold(tenant, b.writer.foldings[tenant]); err != nil {
			return err
		}
	}
	b.folds = b.folds[:0]
	return nil
}

// fold does one step: it moves a tenant's recent facets into blocks and counts them in the
// roll-ups. A rollback may undo it. Then f is not exact, which does no harm.
func (b *batch) fold(tenant int64, f *folding) error {
	rows, err := b.recentFacets(context.Background(), tenant, span{f.from, math.MaxInt64}, b.writer.folds.rows)
	if err != nil {
		return err
	}
	f.added, f.from = 0, math.MinInt64
	if len(rows) == b.writer.folds.rows {
		f.from = rows[len(rows)-1].key // it is read again
	}
	var counted facetDeltas
	for rewrites := 0; len(rows) > 0; {
		if rewrites == b.writer.folds.rewrites {
			f.from, f.added = rows[0].key, b.writer.folds.due(tenant) // the next row continues
			break
		}
		target, next, err := b.blockFor(tenant, rows[0].key)
		if err != nil {
			return err
		}
		n := sort.Search(len(rows), func(i int) bool { return rows[i].key >= next })
		if n >= b.writer.folds.least {
			if err := b.foldRun(tenant, target, rows[:n]); err != nil {
				return err
			}
			counted.addRows(rows[:n], 1)
			rewrites++
		}
		rows = rows[n:]
	}
	return b.applyDeltas(tenant, counted)
}

// applyDeltas changes what is counted of the entries in blocks.
func (b *batch) applyDeltas(tenant int64, deltas facetDeltas) error {
	if err := b.applyRollups(tenant, deltas.hours); err != nil {
		return err
	}
	return b.applyUserDays(tenant, deltas.users)
}

// blockFor returns the block that a key belongs to, nil if it precedes all blocks, and the first
// key of the next block.
func (b *batch) blockFor(tenant, key int64) (target *blockAt, next int64, err error) {
	var at blockAt
	err = b.each(context.Background(), `SELECT number, first, last, entries FROM facet_blocks WHERE tenant = ? AND first <= ? ORDER BY first DESC LIMIT 1`,
		[]any{tenant, key}, []any{&at.number, &at.first, &at.last, &at.entries}, func() (bool, error) {
			target = &at
			return true, nil
		})
	if err != nil {
		return nil, 0, err
	}
	next, err = b.int64(context.Background(), `SELECT coalesce(min(first), ?) FROM facet_blocks WHERE tenant = ? AND first > ?`, int64(math.MaxInt64), tenant, key)
	return target, next, err
}

// foldRun moves rows that belong to one block, if target is not nil.
func (b *batch) foldRun(tenant int64, target *blockAt, run []facetRow) error {
	s := span{run[0].key, run[len(run)-1].key}
	rows := run
	if target != nil && (s.first <= target.last || target.entries+len(run) <= maxBlock) {
		_, stored, err := b.readBlock(tenant, target.first)
		if err != nil {
			return err
		}
		if err := b.deleteBlock(target.number); err != nil {
			return err
		}
		rows = mergeRows(stored.rows(), run)
		s.first, s.last = target.first, max(s.last, target.last)
	}
	if err := b.insertBlocks(tenant, s, rows); err != nil {
		return err
	}
	_, err := b.exec(`DELETE FROM recent_facets WHERE tenant = ? AND key BETWEEN ? AND ?`, tenant, run[0].key, run[len(run)-1].key)
	return err
}

// removeFacets removes entries from what is counted. The keys are in rising order.
func (b *batch) removeFacets(tenant int64, keys []int64) error {
	var blocked []int64
	for _, key := range keys {
		removed, err := b.exec(`DELETE FROM recent_facets WHERE tenant = ? AND key = ?`, tenant, key)
		if err != nil {
			return err
		}
		if removed == 0 {
			blocked = append(blocked, key)
		}
	}
	var uncounted facetDeltas
	for len(blocked) > 0 {
		at, block, err := b.readBlock(tenant, blocked[0])
		if err != nil {
			return err
		}
		n := sort.Search(len(blocked), func(i int) bool { return blocked[i] > at.last })
		if n == 0 || block == nil {
			blocked = blocked[1:] // the entry has no facets
			continue
		}
		gone, kept := block.split(blocked[:n])
		if err := b.replaceBlock(tenant, at, block, kept); err != nil {
			return err
		}
		uncounted.addRows(block.pick(gone).rows(), -1)
		blocked = blocked[n:]
	}
	return b.applyDeltas(tenant, uncounted)
}

// split divides the places of entries by whether their keys are among the given ones.
func (b *facetBlock) split(keys []int64) (gone, kept []int) {
	for place, key := range b.keys {
		if _, found := slices.BinarySearch(keys, key); found {
			gone = append(gone, place)
		} else {
			kept = append(kept, place)
		}
	}
	return gone, kept
}

// smallBlock is the number of entries of the blocks into which a removal divides a large one. So the
// removals that follow write little. joinBlocks joins them again.
const smallBlock = maxBlock / 16

// replaceBlock writes small blocks with some places of a block instead of it.
func (b *batch) replaceBlock(tenant int64, at blockAt, block *facetBlock, places []int) error {
	if err := b.deleteBlock(at.number); err != nil || len(places) == 0 {
		return err
	}
	return b.insertParts(smallBlock, len(places), tenant, at.span, func(from, to int) *facetBlock { return block.pick(places[from:to]) })
}

// joinBlocks joins the small blocks of a tenant that have keys of the span.
func (db *DB) joinBlocks(ctx context.Context, tenant int64, s span) error {
	for next := s.first; next <= s.last; {
		from := next // also if the operation is run again
		err := db.backgroundStep(ctx, workJoin, func(b *batch, _ int) (err error) {
			next, err = b.joinBlocksFrom(tenant, span{from, s.last})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// joinBlocksFrom joins the first blocks of the span that fit into one. It returns the key after them.
func (b *batch) joinBlocksFrom(tenant int64, s span) (next int64, err error) {
	blocks, err := b.blocksFrom(tenant, s)
	if err != nil || len(blocks) == 0 {
		return math.MaxInt64, err
	}
	n, entries := 0, 0
	for n < len(blocks) && (n == 0 || entries+blocks[n].entries <= maxBlock) {
		entries += blocks[n].entries
		n++
	}
	joined := span{blocks[0].first, blocks[n-1].last}
	if n > 1 {
		var rows []facetRow
		for _, at := range blocks[:n] {
			_, stored, err := b.readBlock(tenant, at.first)
			if err != nil {
				return 0, err
			}
			if err := b.deleteBlock(at.number); err != nil {
				return 0, err
			}
			rows = append(rows, stored.rows()...)
		}
		if err := b.insertBlocks(tenant, joined, rows); err != nil {
			return 0, err
		}
	}
	return joined.last + 1, nil
}

// blocksFrom returns the first blocks that may have keys of the span, as many as joinBlocksFrom joins.
func (b *batch) blocksFrom(tenant int64, s span) (blocks []blockAt, err error) {
	var at blockAt
	err = b.each(context.Background(), `SELECT number, first, last, entries FROM facet_blocks WHERE tenant = ?1 AND first >= coalesce(
		(SELECT max(first) FROM facet_blocks WHERE tenant = ?1 AND first <= ?2), ?2) AND first <= ?3 ORDER BY first LIMIT ?4`,
		[]any{tenant, s.first, s.last, 2 * maxBlock / smallBlock}, []any{&at.number, &at.first, &at.last, &at.entries}, func() (bool, error) {
			if at.last >= s.first {
				blocks = append(blocks, at)
			}
			return true, nil
		})
	return blocks, err
}
