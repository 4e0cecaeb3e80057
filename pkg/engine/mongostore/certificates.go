package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
)

// Certificates keeps certificates and the keys that sign them. It implements certificate.Store.
type Certificates struct{ db *DB }

// Certificates returns the certificates.
func (db *DB) Certificates() *Certificates { return &Certificates{db} }

type certificateDocument struct {
	ID   string `bson:"_id"`
	Text string `bson:"text"`
}

type signingKeyDocument struct {
	Number  int    `bson:"_id"`
	Public  []byte `bson:"public"`
	Wrapped []byte `bson:"wrapped"`
}

// maxSigningKeys is more than a service has.
const maxSigningKeys = 100

// AddCertificate implements certificate.Store.
func (s *Certificates) AddCertificate(ctx context.Context, id certificate.ID, text string) error {
	if err := s.add(ctx, collectionCertificates, certificateDocument{id.String(), text}); err != nil {
		return fmt.Errorf("add certificate %s: %w", id, err)
	}
	return nil
}

// add adds a document unless its _id is taken.
func (s *Certificates) add(ctx context.Context, collection string, doc any) error {
	err := s.db.insertOne(ctx, collection, doc)
	if errors.Is(err, audit.ErrConflict) {
		return nil
	}
	return err
}

// Certificate implements certificate.Store.
func (s *Certificates) Certificate(ctx context.Context, id certificate.ID) (string, error) {
	raw, err := s.db.read(ctx, collectionCertificates, readpref.Primary(), id.String())
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	var doc certificateDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("a certificate %w", errStored)
	}
	return doc.Text, nil
}

// AddSigningKey implements certificate.Store.
func (s *Certificates) AddSigningKey(ctx context.Context, key certificate.StoredKey) error {
	if err := s.add(ctx, collectionSigningKeys, signingKeyDocument(key)); err != nil {
		return fmt.Errorf("add signing key %d: %w", key.Number, err)
	}
	return nil
}

// SigningKeys implements certificate.Store.
func (s *Certificates) SigningKeys(ctx context.Context) (keys []certificate.StoredKey, err error) {
	err = s.db.list(ctx, collectionSigningKeys, indexID, ascending(fieldKey), maxSigningKeys, bson.D{}, func(raw bson.Raw) (bool, error) {
		var doc signingKeyDocument
		if err := bson.Unmarshal(raw, &doc); err != nil {
			return false, fmt.Errorf("a signing key %w", errStored)
		}
		keys = append(keys, certificate.StoredKey(doc))
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return keys, nil
}
