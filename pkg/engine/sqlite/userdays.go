package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Distinct users cannot be added up. So each day has the hashes of its users, with the number of
// the entries of each, so that removals are taken back. A count of distinct users unites the days.

// maxDayUsers is the number of users up to which a day has them. The blocks of other days are read.
const maxDayUsers = 4096

// userDeltas are changes of the entries of users, by the first hour of a day and the user's hash.
type userDeltas map[int64]map[uint64]int64

// hashUser returns the hash of a user. Files have hashes, so it must not change. It is FNV-1a
// (http://www.isthe.com/chongo/tech/comp/fnv/) with the finalizer of MurmurHash3, which spreads
// the differences over all bits.
func hashUser(user string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(user) {
		h = (h ^ uint64(user[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (b *batch) applyUserDays(tenant int64, days userDeltas) error {
	for _, start := range slices.Sorted(maps.Keys(days)) {
		if err := b.applyUserDay(tenant, start, days[start]); err != nil {
			return fmt.Errorf("users of the day from hour %d: %w", start, err)
		}
	}
	return nil
}

// applyUserDay must come after the change of the roll-up, whose last entry removes the day.
func (b *batch) applyUserDay(tenant, start int64, changes map[uint64]int64) error {
	ctx := context.Background()
	left, err := b.int64(ctx, `SELECT count(*) FROM rollups WHERE tenant = ? AND hours = ? AND start = ?`, tenant, dayRollup, start)
	if err != nil {
		return err
	}
	if left == 0 {
		_, err := b.exec(`DELETE FROM user_days WHERE tenant = ? AND start = ?`, tenant, start)
		return err
	}
	var data []byte
	err = b.row(ctx, `SELECT users FROM user_days WHERE tenant = ? AND start = ?`, []any{tenant, start}, []any{&data})
	switch {
	case err == nil && data == nil:
		return nil // unknown or too many, and stays so until the day is empty
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if data, err = changeUsers(data, changes); err != nil {
		return err
	}
	_, err = b.exec(`INSERT INTO user_days (tenant, start, users) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET users = excluded.users`, tenant, start, data)
	return err
}

// changeUsers returns the users after the changes, nil if there are too many.
func changeUsers(data []byte, changes map[uint64]int64) ([]byte, error) {
	users := maps.Clone(changes)
	err := eachUser(data, func(hash uint64, n int64) { users[hash] += n })
	if err != nil {
		return nil, err
	}
	changed := make([]byte, 0, len(data)+16*len(changes))
	kept := 0
	for hash, n := range users {
		switch {
		case n < 0:
			return nil, errBadFacets
		case n > 0:
			changed = binary.LittleEndian.AppendUint64(changed, hash)
			changed = binary.AppendUvarint(changed, uint64(n))
			kept++
		}
	}
	if kept > maxDayUsers {
		return nil, nil
	}
	return changed, nil
}

// eachUser reads the hashes of users, each with the number of its entries.
func eachUser(data []byte, visit func(hash uint64, n int64)) error {
	for len(data) > 0 {
		if len(data) < 8 {
			return errBadFacets
		}
		hash := binary.LittleEndian.Uint64(data)
		n, size := binary.Uvarint(data[8:])
		if size <= 0 {
			return errBadFacets
		}
		visit(hash, int64(n))
		data = data[8+size:]
	}
	return nil
}

// countUserDays adds the users of the whole days of a section without a condition. It returns the
// parts that are left.
func (s *counter) countUserDays(t *tally, part span) (rest []span, err error) {
	from, to := part.hours()
	from, to = wholeDays(from, to)
	if from >= to {
		return []span{part}, nil
	}
	rest = part.around(from, to)
	var start int64
	var data []byte
	err = s.conn.each(s.ctx, `SELECT start, users FROM user_days WHERE tenant = ? AND start >= ? AND start < ? ORDER BY start`,
		[]any{s.tenant, from, to}, []any{&start, &data}, func() (bool, error) {
			if data == nil {
				rest = append(rest, hourSpan(start, start+dayRollup))
				return true, nil
			}
			return true, eachUser(data, func(hash uint64, _ int64) { t.users.add(hash) })
		})
	return rest, err
}
