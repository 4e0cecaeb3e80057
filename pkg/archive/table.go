package archive

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
)

// column is a column of a part: how it is written and read.
type column struct {
	parquet.Column
	set func(v *cell, e *audit.Entry)
	get func(v *parquet.Value, e *audit.Entry) error
}

// cell is a value of the row that is being written. Its texts are valid until the next entry.
type cell struct {
	*parquet.Value
	scratch []byte
}

// text sets the value to a text; "" is none.
func (c *cell) text(text string) {
	c.scratch = append(c.scratch[:0], text...)
	c.Valid, c.Text = text != "", c.scratch
}

func (c *cell) time(t time.Time) { c.Valid, c.Integer = !t.IsZero(), t.UnixMilli() }

func (c *cell) texts(texts []string) {
	c.Valid, c.Texts, c.scratch = len(texts) > 0, c.Texts[:0], c.scratch[:0]
	for _, text := range texts {
		begin := len(c.scratch)
		c.scratch = append(c.scratch, text...)
		c.Texts = append(c.Texts, c.scratch[begin:]) // stays right if scratch moves
	}
}

// newColumns returns the columns: the fields of an entry as stores have them. Encrypted values are there as they are
// stored, without what lets entries be found by them: an erasure must be able to remove that.
func newColumns() []column {
	return []column{
		textColumn("id", func(e *audit.Entry) string { return e.ID.String() }, func(e *audit.Entry, text string) (err error) {
			e.ID, err = audit.ParseEntryID(text)
			return err
		}),
		textColumn("tenant_id", func(e *audit.Entry) string { return string(e.Tenant) }, func(e *audit.Entry, text string) error {
			e.Tenant = audit.TenantID(text)
			return nil
		}),
		timeColumn("timestamp", func(e *audit.Entry) *time.Time { return &e.Timestamp }),
		timeColumn("received_at", func(e *audit.Entry) *time.Time { return &e.ReceivedAt }),
		fieldColumn("user_id", func(e *audit.Entry) *string { return &e.UserID }),
		fieldColumn("session_id", func(e *audit.Entry) *string { return &e.SessionID }),
		fieldColumn("request_id", func(e *audit.Entry) *string { return &e.RequestID }),
		fieldColumn("action", func(e *audit.Entry) *string { return &e.Action }),
		fieldColumn("resource_type", func(e *audit.Entry) *string { return &e.ResourceType }),
		fieldColumn("resource_id", func(e *audit.Entry) *string { return &e.ResourceID }),
		textColumn("ip_address", addressOf, func(e *audit.Entry, text string) (err error) {
			e.IPAddress, err = netip.ParseAddr(text)
			return err
		}),
		fieldColumn("user_agent", func(e *audit.Entry) *string { return &e.UserAgent }),
		objectColumn("before_state", func(e *audit.Entry) *audit.Object { return &e.Before }),
		objectColumn("after_state", func(e *audit.Entry) *audit.Object { return &e.After }),
		objectColumn("metadata", func(e *audit.Entry) *audit.Object { return &e.Metadata }),
		textColumn("severity", func(e *audit.Entry) string { return e.Severity.String() }, func(e *audit.Entry, text string) (err error) {
			e.Severity, err = audit.ParseSeverity(text)
			return err
		}),
		fieldColumn("message", func(e *audit.Entry) *string { return &e.Message }),
		fieldColumn("idempotency_key", func(e *audit.Entry) *string { return &e.IdempotencyKey }),
		fieldColumn("submitted_by", func(e *audit.Entry) *string { return &e.SubmittedBy }),
		listColumn("changed", func(e *audit.Entry) *[]string { return &e.Changed }),
		listColumn("removed", func(e *audit.Entry) *[]string { return &e.Removed }),
		{
			Column: parquet.Column{Name: "encrypted", Type: parquet.Text},
			set: func(c *cell, e *audit.Entry) {
				if c.Valid = len(e.Encrypted) > 0; c.Valid {
					c.scratch = entryjson.AppendEncrypted(c.scratch[:0], e.Encrypted)
					c.Text = c.scratch
				}
			},
			get: func(v *parquet.Value, e *audit.Entry) (err error) {
				e.Encrypted, err = entryjson.ParseEncrypted(v.Text)
				return err
			},
		},
		textColumn("digest", func(e *audit.Entry) string { return hex.EncodeToString(e.Digest.AppendTo(nil)) }, func(e *audit.Entry, text string) error {
			sum, err := hex.DecodeString(text)
			digest, is := audit.ParseDigest(sum)
			if err != nil || !is {
				return errors.New("not a digest")
			}
			e.Digest = digest
			return nil
		}),
	}
}

// made has the columns once they were asked for. A program that reads ids alone does not have them.
var made struct {
	once    sync.Once
	columns []column
}

func columns() []column {
	made.once.Do(func() { made.columns = newColumns() })
	return made.columns
}

func addressOf(e *audit.Entry) string {
	if !e.IPAddress.IsValid() {
		return ""
	}
	return e.IPAddress.String()
}

// textColumn returns a column of texts, of which the empty one is none.
func textColumn(name string, of func(e *audit.Entry) string, parse func(e *audit.Entry, text string) error) column {
	return column{
		Column: parquet.Column{Name: name, Type: parquet.Text},
		set:    func(c *cell, e *audit.Entry) { c.text(of(e)) },
		get:    func(v *parquet.Value, e *audit.Entry) error { return parse(e, string(v.Text)) },
	}
}

func fieldColumn(name string, field func(e *audit.Entry) *string) column {
	return textColumn(name, func(e *audit.Entry) string { return *field(e) }, func(e *audit.Entry, text string) error {
		*field(e) = text
		return nil
	})
}

func timeColumn(name string, field func(e *audit.Entry) *time.Time) column {
	return column{
		Column: parquet.Column{Name: name, Type: parquet.Timestamp},
		set:    func(c *cell, e *audit.Entry) { c.time(*field(e)) },
		get: func(v *parquet.Value, e *audit.Entry) error {
			*field(e) = time.UnixMilli(v.Integer).UTC()
			return nil
		},
	}
}

func objectColumn(name string, field func(e *audit.Entry) *audit.Object) column {
	return column{
		Column: parquet.Column{Name: name, Type: parquet.Text},
		set:    func(c *cell, e *audit.Entry) { c.Valid, c.Text = len(*field(e)) > 0, *field(e) },
		get: func(v *parquet.Value, e *audit.Entry) error {
			*field(e) = append(audit.Object{}, v.Text...)
			return nil
		},
	}
}

func listColumn(name string, field func(e *audit.Entry) *[]string) column {
	return column{
		Column: parquet.Column{Name: name, Type: parquet.Texts},
		set:    func(c *cell, e *audit.Entry) { c.texts(*field(e)) },
		get: func(v *parquet.Value, e *audit.Entry) error {
			for _, text := range v.Texts {
				*field(e) = append(*field(e), string(text))
			}
			return nil
		},
	}
}

// Columns returns the columns of a part, in their order.
func Columns() []parquet.Column {
	all := make([]parquet.Column, len(columns()))
	for i, c := range columns() {
		all[i] = c.Column
	}
	return all
}

// entryOf returns the entry of a row. It has no reference to the row.
func entryOf(row []parquet.Value) (e audit.Entry, err error) {
	for i, c := range columns() {
		if !row[i].Valid {
			continue
		}
		if err := c.get(&row[i], &e); err != nil {
			return audit.Entry{}, fmt.Errorf("column %s of %s: %w", c.Name, e.ID, err)
		}
	}
	return e, nil
}

// withoutTokens removes what lets an entry be found by encrypted values. It does not change the
// entry's own elements.
func withoutTokens(e *audit.Entry) {
	if len(e.Encrypted) == 0 {
		return
	}
	elements := slices.Clone(e.Encrypted)
	for i := range elements {
		elements[i].Tokens = nil
	}
	e.Encrypted = elements
}
