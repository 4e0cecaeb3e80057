package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
)

const (
	// groupSize is how much of a part is one row group, in bytes before compression.
	groupSize = 8 << 20
	// fullSize is the size at which a part gets no further row group, in bytes. A worker has a part in
	// memory.
	fullSize = 64 << 20
	// maxPart is more than a part has, in bytes: one more row group, which may not be compressible.
	maxPart = fullSize + 4*groupSize

	partType = "application/vnd.apache.parquet"
	idsType  = "application/octet-stream"
)

// part is a part that is being written.
type part struct {
	table   *parquet.Writer
	row     []parquet.Value
	cells   []cell
	body    []byte
	ids     packedIDs
	content hash.Hash
	text    []byte // of the last entry
	file    File
	days    map[string]int64
	actions map[string]bool
	levels  map[audit.Severity]bool
}

func newPart() (*part, error) {
	table, err := parquet.NewWriter(Columns(), parquet.State{})
	if err != nil {
		return nil, err
	}
	p := &part{
		table: table, row: make([]parquet.Value, len(columns())), cells: make([]cell, len(columns())), content: sha256.New(),
		days: map[string]int64{}, actions: map[string]bool{}, levels: map[audit.Severity]bool{},
	}
	for i := range p.cells {
		p.cells[i].Value = &p.row[i]
	}
	return p, nil
}

// add adds an entry. Their ids rise.
func (p *part) add(e audit.Entry) {
	withoutTokens(&e)
	e.RestoredUntil = time.Time{}
	for i, c := range columns() {
		c.set(&p.cells[i], &e)
	}
	p.table.Add(p.row)
	if p.table.Size() >= groupSize {
		p.body = p.table.Flush(p.body)
	}
	p.ids = append(p.ids, e.ID[:]...)
	p.text = entryjson.AppendStored(p.text[:0], &e)
	_, _ = p.content.Write(p.text) // never fails
	if p.file.Rows == 0 {
		p.file.First = e.Timestamp
	}
	p.file.Last = e.Timestamp
	if e.ReceivedAt.After(p.file.LastReceived) {
		p.file.LastReceived = e.ReceivedAt
	}
	p.file.Rows++
	p.days[e.Timestamp.Format(time.DateOnly)]++
	p.levels[e.Severity] = true
	if len(p.actions) <= maxActions {
		p.actions[e.Action] = true
	}
}

// isFull reports whether the part is to get no further entries.
func (p *part) isFull(maxRows int64) bool { return p.file.Rows >= maxRows || len(p.body) >= fullSize }

// end writes the end of the part and describes it, but for its name.
func (p *part) end() {
	p.body = p.table.Close(p.body)
	p.file.Bytes, p.file.SHA256 = int64(len(p.body)), hexSum(sha256.Sum256(p.body))
	p.file.IDs.SHA256 = hexSum(sha256.Sum256(p.ids))
	p.file.Content = hexSum([sha256.Size]byte(p.content.Sum(nil)))
	for _, day := range slices.Sorted(maps.Keys(p.days)) {
		p.file.Days = append(p.file.Days, Rows{day, p.days[day]})
	}
	p.file.Severities = slices.Sorted(maps.Keys(p.levels))
	if len(p.actions) <= maxActions {
		p.file.Actions = slices.Sorted(maps.Keys(p.actions))
	}
}

// setNumber gives the part its name.
func (f *File) setNumber(n int) { f.Name, f.IDs.Name = partName(n), idsName(n) }

// store stores the part and its ids under its name. It returns audit.ErrConflict if another job has taken
// the name.
func (p *part) store(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month) error {
	if err := blobs.Create(ctx, tenant, of.folder()+p.file.IDs.Name, export.ContentOf(p.ids, idsType)); err != nil {
		return err
	}
	return blobs.Create(ctx, tenant, of.folder()+p.file.Name, export.ContentOf(p.body, partType))
}

// errDamaged says that a part is not what its description says.
var errDamaged = fmt.Errorf("the part is not what was written: %w", export.ErrContent)

// ReadPart calls visit with each entry of a part, in the order of their ids. It reads the whole part
// first, and compares it with its description. Then it returns an error that wraps export.ErrContent or
// audit.ErrNotFound if the part is damaged or gone.
func ReadPart(ctx context.Context, blobs Getter, tenant audit.TenantID, monthName string, f *File, visit func(*audit.Entry) error) error {
	of, err := parseMonth(monthName)
	if err == nil {
		err = readPart(ctx, blobs, tenant, of, f, visit)
	}
	if err != nil {
		return fmt.Errorf("read %s of %s %s: %w", f.Name, tenant, monthName, err)
	}
	return nil
}

func readPart(ctx context.Context, blobs Getter, tenant audit.TenantID, of month, f *File, visit func(*audit.Entry) error) error {
	table, err := openPart(ctx, blobs, tenant, of, f)
	if err != nil {
		return err
	}
	return visitRows(table.All(), visit)
}

// openPart reads a whole part and compares it with its description.
func openPart(ctx context.Context, blobs Getter, tenant audit.TenantID, of month, f *File) (*parquet.Reader, error) {
	text, _, err := readAll(ctx, blobs, tenant, of.folder()+f.Name, maxPart)
	if err != nil {
		return nil, err
	}
	if int64(len(text)) != f.Bytes || hexSum(sha256.Sum256(text)) != f.SHA256 {
		return nil, fmt.Errorf("its bytes: %w", errDamaged)
	}
	table, err := parquet.Open(bytes.NewReader(text), f.Bytes)
	if err == nil && (!slices.Equal(table.Columns(), Columns()) || table.Rows() != f.Rows) {
		err = errors.New("its columns or rows are others")
	}
	if err != nil {
		return nil, errors.Join(err, errDamaged)
	}
	return table, nil
}

// visitRows calls visit with the entry of each row.
func visitRows(rows iter.Seq2[[]parquet.Value, error], visit func(*audit.Entry) error) error {
	for row, err := range rows {
		if err != nil {
			return errors.Join(err, errDamaged)
		}
		e, err := entryOf(row)
		if err != nil {
			return errors.Join(err, errDamaged)
		}
		if err := visit(&e); err != nil {
			return err
		}
	}
	return nil
}

// verify reads the part back. It returns an error unless it has the entries that were read from the
// store: their number, their ids and their content.
func verify(ctx context.Context, blobs Getter, tenant audit.TenantID, of month, f *File) (packedIDs, error) {
	ids, err := readIDs(ctx, blobs, tenant, of, f)
	if err != nil {
		return nil, err
	}
	content, n := sha256.New(), 0
	var text []byte
	err = readPart(ctx, blobs, tenant, of, f, func(e *audit.Entry) error {
		if n >= ids.len() || !bytes.Equal(e.ID[:], ids.at(n)) {
			return fmt.Errorf("the id of entry %d: %w", n, errDamaged)
		}
		n++
		text = entryjson.AppendStored(text[:0], e)
		_, _ = content.Write(text) // never fails
		return nil
	})
	if err == nil && n != ids.len() {
		err = fmt.Errorf("%d entries of %d: %w", n, ids.len(), errDamaged)
	}
	if err == nil && hexSum([sha256.Size]byte(content.Sum(nil))) != f.Content {
		err = fmt.Errorf("its entries: %w", errDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s of %s %s: %w", f.Name, tenant, of, err)
	}
	return ids, nil
}
