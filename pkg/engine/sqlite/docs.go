package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// A row of entries says where the entry's document is: at a place of a block (doc_blocks), or
// alone (recent_docs) if block is 0. Documents that are written together become blocks at once.
// Others are packed when their tenant has enough of them for a block.

// fewDocs and fewDocBytes are what the documents of a chunk must reach to become a block at once.
const (
	fewDocs     = 8
	fewDocBytes = 16 << 10
)

// docChunk is entries that are written one after the other, and whose documents may form a block.
type docChunk struct {
	rows  []*entryRow
	block []byte // nil: the documents stay alone
}

// chunks divides entries of one tenant into chunks of about the same size, and packs their documents.
func (s *blockSizer) chunks(rows []*entryRow) []docChunk {
	var chunks []docChunk
	left := bytesOf(rows)
	for parts := s.parts(left); len(rows) > 0; parts = max(1, parts-1) {
		n, bytes := 1, len(rows[0].doc)
		for n < min(blockDocs, len(rows)) && bytes < left/parts && bytes+len(rows[n].doc) <= blockBytes {
			bytes += len(rows[n].doc)
			n++
		}
		chunk := docChunk{rows: rows[:n]}
		if n >= fewDocs || bytes >= fewDocBytes {
			chunk.block = packDocs(docsOf(chunk.rows))
			s.note(bytes, len(chunk.block))
		}
		chunks, rows, left = append(chunks, chunk), rows[n:], left-bytes
	}
	return chunks
}

func bytesOf(rows []*entryRow) (n int) {
	for _, row := range rows {
		n += len(row.doc)
	}
	return n
}

func docsOf(rows []*entryRow) [][]byte {
	docs := make([][]byte, len(rows))
	for i, row := range rows {
		docs[i] = row.doc
	}
	return docs
}

func pointersTo[T any](values []T) []*T {
	pointers := make([]*T, len(values))
	for i := range values {
		pointers[i] = &values[i]
	}
	return pointers
}

// writeChunk writes the entries of a chunk. write stores those that are new.
func (b *batch) writeChunk(chunk *docChunk, write func(rows []*entryRow) error) error {
	var block int64
	if chunk.block != nil {
		var err error
		if block, err = b.insertDocs(chunk.block); err != nil {
			return err
		}
	}
	for place, row := range chunk.rows {
		row.block, row.place = block, place
	}
	if err := write(chunk.rows); err != nil {
		return err
	}
	docs, whole := docsOf(chunk.rows), true
	for place, row := range chunk.rows {
		if !row.stored {
			docs[place], whole = nil, false
		}
	}
	if block == 0 || whole {
		return nil
	}
	return b.replaceDocs(block, docs) // without those of entries that were stored before
}

func (b *batch) insertDocs(block []byte) (number int64, err error) {
	result, err := b.result(`INSERT INTO doc_blocks (docs) VALUES (?)`, block)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// replaceDocs writes a block again, or removes it if no document is left.
func (b *batch) replaceDocs(number int64, docs [][]byte) error {
	for _, doc := range docs {
		if len(doc) > 0 {
			_, err := b.exec(`UPDATE doc_blocks SET docs = ? WHERE number = ?`, packDocs(docs), number)
			return err
		}
	}
	_, err := b.exec(`DELETE FROM doc_blocks WHERE number = ?`, number)
	return err
}

// insertRecentDoc stores a document alone. flush packs those of the tenant if they are enough.
func (b *batch) insertRecentDoc(tenant, key int64, doc []byte) error {
	if _, err := b.exec(`INSERT INTO recent_docs (tenant, key, doc) VALUES (?, ?, ?)`, tenant, key, doc); err != nil {
		return err
	}
	bytes, known := b.writer.recentDocs[tenant]
	if known {
		bytes += len(doc)
	} else { // an earlier process may have left some
		stored, err := b.int64(context.Background(), `SELECT sum(length(doc)) FROM recent_docs WHERE tenant = ?`, tenant)
		if err != nil {
			return err
		}
		bytes = int(stored)
	}
	b.writer.recentDocs[tenant] = bytes
	if bytes+len(doc) > b.writer.blocks.bytes() && len(b.packs) < maxPacks && !slices.Contains(b.packs, tenant) {
		b.packs = append(b.packs, tenant)
	}
	return nil
}

// packRecent packs the recent documents of the tenants that have enough of them.
func (b *batch) packRecent() error {
	for _, tenant := range b.packs {
		if err := b.packTenant(tenant); err != nil {
			return err
		}
	}
	b.packs = b.packs[:0]
	return nil
}

const (
	// maxPacked bounds the documents that one step packs.
	maxPacked = 1024
	// maxPacks is how many tenants one flush does a step for. Others have enough documents with their next ones too.
	maxPacks = 32
)

// packTenant moves the recent documents of a tenant into blocks. A rollback may undo it. Then the
// size of the recent documents is not exact, which does no harm.
func (b *batch) packTenant(tenant int64) error {
	var rows []entryRow
	var key int64
	var doc []byte
	err := b.each(context.Background(), `SELECT key, doc FROM recent_docs WHERE tenant = ? ORDER BY key LIMIT ?`,
		[]any{tenant, maxPacked}, []any{&key, &doc}, func() (bool, error) {
			rows = append(rows, entryRow{key: key, doc: doc})
			return true, nil
		})
	if err != nil {
		return err
	}
	b.writer.recentDocs[tenant] = 0
	for _, chunk := range b.writer.blocks.chunks(pointersTo(rows)) {
		if chunk.block == nil {
			b.writer.recentDocs[tenant] += bytesOf(chunk.rows)
			continue
		}
		if err := b.packChunk(tenant, &chunk); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) packChunk(tenant int64, chunk *docChunk) error {
	block, err := b.insertDocs(chunk.block)
	if err != nil {
		return err
	}
	for place := range chunk.rows {
		if _, err := b.exec(`UPDATE entries SET block = ?, place = ? WHERE key = ?`, block, place, chunk.rows[place].key); err != nil {
			return err
		}
	}
	_, err = b.exec(`DELETE FROM recent_docs WHERE tenant = ? AND key BETWEEN ? AND ?`, tenant, chunk.rows[0].key, chunk.rows[len(chunk.rows)-1].key)
	return err
}

// The columns and the join of a query that docReader runs. e stands for entries.
const (
	entryColumns = `e.key, e.id, e.digest, e.message, e.block, e.place, r.doc`
	joinDocs     = ` LEFT JOIN recent_docs r ON e.block = 0 AND r.tenant = e.tenant AND r.key = e.key `
)

// docReader reads entries of one tenant. It keeps the blocks that it read last, because entries
// that are stored together are often read together.
type docReader struct {
	conn   *conn
	tenant audit.TenantID

	// The current row.
	key, message, block int64
	place               int
	id, digest, recent  sql.RawBytes

	blocks map[int64][][]byte
}

// maxBlocksKept bounds the blocks that a docReader keeps, of 64 KiB each at most, or one document.
const maxBlocksKept = 64

// each visits the rows of a constant query until visit returns false.
func (r *docReader) each(ctx context.Context, query string, args []any, visit func() (more bool, err error)) error {
	return r.conn.each(ctx, query, args, r.columns(), visit)
}

func (r *docReader) columns() []any {
	return []any{&r.key, &r.id, &r.digest, &r.message, &r.block, &r.place, &r.recent}
}

// document returns the document of the current row, until the next row.
func (r *docReader) document(ctx context.Context) ([]byte, error) {
	if r.block == 0 {
		return r.recent, nil
	}
	docs, kept := r.blocks[r.block]
	if !kept {
		var err error
		if docs, err = r.conn.readDocs(ctx, r.block); err != nil {
			return nil, err
		}
		if r.blocks == nil || len(r.blocks) == maxBlocksKept {
			r.blocks = map[int64][][]byte{}
		}
		r.blocks[r.block] = docs
	}
	if r.place >= len(docs) {
		return nil, errBadDocs
	}
	return docs[r.place], nil
}

// readDocs returns the documents of a block.
func (c *conn) readDocs(ctx context.Context, block int64) ([][]byte, error) {
	var data []byte
	err := c.row(ctx, `SELECT docs FROM doc_blocks WHERE number = ?`, []any{block}, []any{&data})
	if errors.Is(err, sql.ErrNoRows) {
		err = errBadDocs
	}
	var docs [][]byte
	if err == nil {
		docs, err = unpackDocs(data)
	}
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", block, err)
	}
	return docs, nil
}

// entry returns the entry of the current row.
func (r *docReader) entry(ctx context.Context) (e audit.Entry, err error) {
	doc, err := r.document(ctx)
	if err == nil {
		e, err = r.parse(doc)
	}
	if err != nil {
		return audit.Entry{}, fmt.Errorf("entry with key %d: %w", r.key, err)
	}
	return e, nil
}

// parse returns the current row's entry, which has the document.
func (r *docReader) parse(doc []byte) (audit.Entry, error) {
	e, err := entryjson.ParseStored(doc)
	if err != nil {
		return audit.Entry{}, err
	}
	digest, ok := audit.ParseDigest(r.digest)
	if len(r.id) != len(e.ID) || !ok {
		return audit.Entry{}, errBadDocs
	}
	e.ID, e.Tenant, e.Digest = audit.EntryID(r.id), r.tenant, digest
	e.Timestamp = e.ID.Time()
	return e, nil
}

// removeEntries removes rows of entries, and their documents.
func (b *batch) removeEntries(tenant int64, entries []docPlace) error {
	places := map[int64][]int{} // by block
	for _, e := range entries {
		if _, err := b.exec(`DELETE FROM entries WHERE key = ?`, e.key); err != nil {
			return err
		}
		if _, err := b.exec(`DELETE FROM deletable WHERE key = ?`, e.key); err != nil {
			return err
		}
		if e.block != 0 {
			places[e.block] = append(places[e.block], e.place)
			continue
		}
		if _, err := b.exec(`DELETE FROM recent_docs WHERE tenant = ? AND key = ?`, tenant, e.key); err != nil {
			return err
		}
	}
	for block, removed := range places {
		docs, err := b.readDocs(context.Background(), block)
		if err != nil {
			return err
		}
		for _, place := range removed {
			if place >= len(docs) {
				return errBadDocs
			}
			docs[place] = nil
		}
		if err := b.replaceDocs(block, docs); err != nil {
			return err
		}
	}
	return nil
}

// docPlace says where the document of an entry is.
type docPlace struct {
	key, block int64
	place      int
}

// purgeEntries removes entries from the index too: their keys may be used again.
func (b *batch) purgeEntries(tenant int64, limit int) (int, error) {
	if err := b.flush(); err != nil { // what it packs has other places then
		return 0, err
	}
	var entries []docPlace
	var e docPlace
	err := b.each(context.Background(), `SELECT key, block, place FROM entries INDEXED BY entries_by_id WHERE tenant = ? LIMIT ?`,
		[]any{tenant, limit}, []any{&e.key, &e.block, &e.place}, func() (bool, error) {
			entries = append(entries, e)
			return true, nil
		})
	if err != nil {
		return 0, err
	}
	return len(entries), b.removeIndexedEntries(tenant, entries)
}

// removeIndexedEntries removes entries, also from the index.
func (b *batch) removeIndexedEntries(tenant int64, entries []docPlace) error {
	indexed, err := b.indexed(tenant, entries)
	if err == nil {
		err = b.removeIndexed(tenant, indexed)
	}
	if err != nil {
		return err
	}
	return b.removeEntries(tenant, entries)
}
