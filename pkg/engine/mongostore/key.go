package mongostore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// entryKey is the _id of an entry: a hash of the tenant's id, then the entry's id. In
// BSON it is a binary. All keys have one length, because BSON orders binaries by their
// length first. The order of a tenant's keys is the order of lists: the id begins with
// the milliseconds of the timestamp.
//
// The hash is the first half of a SHA-256. Of 20,000 tenants, two have the same hash
// with a probability below 10⁻³⁰. Every query names the tenant too. With equal hashes,
// a tenant's entry could therefore be refused, and never be returned to the other tenant.
type entryKey [tenantHashBytes + len(audit.EntryID{})]byte

const tenantHashBytes = 16

func keyOfEntry(tenant audit.TenantID, id audit.EntryID) (key entryKey) {
	sum := sha256.Sum256([]byte(tenant))
	copy(key[:tenantHashBytes], sum[:])
	copy(key[tenantHashBytes:], id[:])
	return key
}

// binary returns the key as a BSON value.
func (k entryKey) binary() bson.Binary {
	return bson.Binary{Subtype: bson.TypeBinaryGeneric, Data: k[:]}
}

// id returns the entry's id.
func (k entryKey) id() audit.EntryID { return audit.EntryID(k[tenantHashBytes:]) }

// readEntryKey returns the key of a stored entry.
func readEntryKey(doc bson.Raw) (key entryKey, err error) {
	_, data, ok := doc.Lookup(fieldKey).BinaryOK()
	if !ok || len(data) != len(key) {
		return key, fmt.Errorf("the _id of an entry %w", errStored)
	}
	return entryKey(data), nil
}

// keyRange is a range of a tenant's keys.
type keyRange struct {
	lower, upper     entryKey
	lowerOp, upperOp string
}

// keysIn returns the keys of the tenant's entries in the time range.
func keysIn(tenant audit.TenantID, t audit.Time) keyRange {
	r := keyRange{lower: keyOfEntry(tenant, firstID(t.From)), lowerOp: "$gte", upperOp: "$lt"}
	if t.To.IsZero() {
		r.upper, r.upperOp = keyOfEntry(tenant, audit.EntryID(bytes.Repeat([]byte{0xff}, len(audit.EntryID{})))), "$lte"
		return r
	}
	r.upper = keyOfEntry(tenant, firstID(t.To))
	return r
}

// keysAfter returns the keys of a tenant's entries from t that come after an id, if it is not zero.
func keysAfter(tenant audit.TenantID, t audit.Time, after audit.EntryID) keyRange {
	keys := keysIn(tenant, t)
	if !after.IsZero() {
		keys = keys.after(keyOfEntry(tenant, after))
	}
	return keys
}

// after excludes the key and all before it.
func (r keyRange) after(key entryKey) keyRange {
	if bytes.Compare(key[:], r.lower[:]) >= 0 {
		r.lower, r.lowerOp = key, "$gt"
	}
	return r
}

// before excludes the key and all after it.
func (r keyRange) before(key entryKey) keyRange {
	if bytes.Compare(key[:], r.upper[:]) <= 0 {
		r.upper, r.upperOp = key, "$lt"
	}
	return r
}

// condition returns the condition that _id lies in the range.
func (r keyRange) condition() bson.E {
	return bson.E{Key: fieldKey, Value: bson.D{{Key: r.lowerOp, Value: r.lower.binary()}, {Key: r.upperOp, Value: r.upper.binary()}}}
}

// firstID returns a bound: no greater than the ids of the time and later ones, and
// greater than all earlier ids. It rounds up to the millisecond.
func firstID(t time.Time) (id audit.EntryID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(min(max(t.Add(time.Millisecond-1).UnixMilli(), 0), 1<<48-1)))
	copy(id[:], ms[2:])
	return id
}

// entriesWithKeys matches the tenant's entries with these keys.
func entriesWithKeys(tenant audit.TenantID, keys []entryKey) bson.D {
	return append(ofTenant(tenant), bson.E{Key: fieldKey, Value: bson.D{{Key: "$in", Value: binaries(keys)}}})
}

func binaries(keys []entryKey) bson.A {
	values := make(bson.A, len(keys))
	for i, key := range keys {
		values[i] = key.binary()
	}
	return values
}
