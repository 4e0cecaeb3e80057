package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// EntryID identifies an entry within its tenant. It has the UUIDv7 layout of
// RFC 9562: 48 bits for the Unix milliseconds of the entry's
// timestamp, and 74 free bits. The order of ids is the order of time.
type EntryID [16]byte

// NewEntryID returns an id for time t whose free bits are taken from random.
func NewEntryID(t time.Time, random [10]byte) EntryID {
	var id EntryID
	ms := uint64(t.UnixMilli())
	binary.BigEndian.PutUint16(id[0:2], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:6], uint32(ms))
	copy(id[6:], random[:])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // RFC 9562 variant
	return id
}

// RandomEntryID returns an id for time t whose free bits random fills in, so that nobody can take it before.
func RandomEntryID(t time.Time, random func(b []byte)) EntryID {
	var b [10]byte
	random(b[:])
	return NewEntryID(t, b)
}

// IDSequence gives the entries of one request their ids. The first sequenceBits free bits
// of an id count from a random start, so that entries of one millisecond keep the order of
// the request. The other 52 free bits are random, so that ids of different requests do not
// collide and cannot be guessed.
type IDSequence struct{ next uint32 }

// sequenceBits are enough for a random start and MaxBulkEntries further numbers.
const sequenceBits = 22

// NewIDSequence returns a sequence for up to MaxBulkEntries ids. random decides the start.
func NewIDSequence(random [4]byte) IDSequence {
	return IDSequence{next: binary.BigEndian.Uint32(random[:]) % (1<<sequenceBits - MaxBulkEntries)}
}

// NewEntryID returns the next id, for time t. Its last 52 bits are taken from random.
func (s *IDSequence) NewEntryID(t time.Time, random [10]byte) EntryID {
	id := NewEntryID(t, random)
	n := s.next
	s.next++
	binary.BigEndian.PutUint16(id[6:8], uint16(n>>10)&0x0fff|0x7000) // 12 bits after the version
	id[8] = byte(n>>4)&0x3f | 0x80                                   // 6 bits after the variant
	id[9] = id[9]&0x0f | byte(n<<4)                                  // the last 4
	return id
}

// IDsOf returns the ids of entries.
func IDsOf(entries []Entry) []EntryID {
	ids := make([]EntryID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	return ids
}

// DeriveEntryID returns the id of the identity (tenant, timestamp, idempotency
// key): the same three always give the same id. The free bits are those of
// SHA-256 over the tenant's length, the tenant and the key.
func DeriveEntryID(tenant TenantID, t time.Time, key string) EntryID {
	buf := make([]byte, 0, 1+len(tenant)+len(key))
	buf = append(buf, byte(len(tenant)))
	buf = append(buf, tenant...)
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	return NewEntryID(t, [10]byte(sum[:10]))
}

// ParseEntryID reads the 36-character form. It refuses any UUID that is not of version 7.
func ParseEntryID(s string) (EntryID, error) {
	var id EntryID
	invalid := func() (EntryID, error) {
		return EntryID{}, Invalid("/id", "invalid_id", "must be a UUID of version 7 in its 36-character form")
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return invalid()
	}
	var digits [32]byte
	n := 0
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		digits[n] = s[i]
		n++
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return invalid()
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return invalid()
	}
	return id, nil
}

// MessageID identifies an ingest message: the queue message with which accepted entries reach
// the system of record. It begins with six bytes of Unix milliseconds and is random otherwise, as an EntryID, so that stores append
// the ids of a tenant one after the other.
type MessageID [16]byte

// IsZero reports whether the id is unset.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// Tag returns a short form that stores keep with an entry. It is 0 for an unset id. It tells
// apart two messages that bring the same entry in the same millisecond.
func (id MessageID) Tag() int64 { return int64(binary.BigEndian.Uint64(id[8:])) }

// IsZero reports whether the id is unset.
func (id EntryID) IsZero() bool { return id == EntryID{} }

// Time returns the time that the id names, in UTC, to the millisecond.
func (id EntryID) Time() time.Time {
	ms := uint64(binary.BigEndian.Uint16(id[0:2]))<<32 | uint64(binary.BigEndian.Uint32(id[2:6]))
	return time.UnixMilli(int64(ms)).UTC()
}

// AppendText appends the 36-character form.
func (id EntryID) AppendText(dst []byte) ([]byte, error) {
	dst = hex.AppendEncode(dst, id[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:16]), nil
}

// MarshalText returns the 36-character form.
func (id EntryID) MarshalText() ([]byte, error) { return id.AppendText(make([]byte, 0, 36)) }

// UnmarshalText reads the 36-character form.
func (id *EntryID) UnmarshalText(text []byte) error {
	parsed, err := ParseEntryID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

func (id EntryID) String() string {
	text, _ := id.AppendText(make([]byte, 0, 36)) // never fails
	return string(text)
}
