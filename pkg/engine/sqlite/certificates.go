package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/certificate"
)

// Certificates keeps certificates and the keys that sign them. It implements certificate.Store.
type Certificates struct{ db *DB }

// Certificates returns the certificates in this file.
func (db *DB) Certificates() *Certificates { return &Certificates{db} }

// AddCertificate implements certificate.Store.
func (s *Certificates) AddCertificate(ctx context.Context, id certificate.ID, text string) error {
	err := s.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`INSERT INTO certificates (id, text) VALUES (?, ?) ON CONFLICT DO NOTHING`, id[:], text)
		return err
	})
	if err != nil {
		return fmt.Errorf("add certificate %s: %w", id, err)
	}
	return nil
}

// Certificate implements certificate.Store.
func (s *Certificates) Certificate(ctx context.Context, id certificate.ID) (text string, err error) {
	err = s.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT text FROM certificates WHERE id = ?`, []any{id[:]}, []any{&text})
	})
	if err != nil {
		return "", fmt.Errorf("certificate: %w", notFound(err))
	}
	return text, nil
}

// AddSigningKey implements certificate.Store.
func (s *Certificates) AddSigningKey(ctx context.Context, key certificate.StoredKey) error {
	err := s.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`INSERT INTO certificate_keys (number, public, wrapped) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, key.Number, key.Public, key.Wrapped)
		return err
	})
	if err != nil {
		return fmt.Errorf("add signing key %d: %w", key.Number, err)
	}
	return nil
}

// SigningKeys implements certificate.Store.
func (s *Certificates) SigningKeys(ctx context.Context) (keys []certificate.StoredKey, err error) {
	var number int
	var public, wrapped sql.RawBytes
	err = s.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT number, public, wrapped FROM certificate_keys ORDER BY number`, nil, []any{&number, &public, &wrapped}, func() (bool, error) {
			keys = append(keys, certificate.StoredKey{Number: number, Public: append([]byte(nil), public...), Wrapped: append([]byte(nil), wrapped...)})
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return keys, nil
}
