package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// skewTTL is how long a process relies on one comparison of the clocks.
	skewTTL = 10 * time.Second
	// maxReadTime is the longest that an exact comparison takes. Opening a connection takes
	// longer.
	maxReadTime = 100 * time.Millisecond
	// maxReadings bounds the comparisons until one is exact.
	maxReadings = 3
)

// skew returns how far the server's clock is ahead of this process' clock, in whole milliseconds,
// as it was at most skewTTL ago. Times that processes compare are stored by the server's clock: a process adds
// the skew before it stores a time, and subtracts it after it has read one.
func (db *DB) skew(ctx context.Context) (time.Duration, error) {
	if read, known := db.skews.Get(struct{}{}); known && read.Fresh(db.now(), skewTTL) {
		return read.Value, nil
	}
	var skew, best time.Duration
	var readAt time.Time
	for i := range maxReadings {
		before := db.wallClock()
		server, err := db.serverTime(ctx)
		if err != nil {
			return 0, fmt.Errorf("read the server's clock: %w", err)
		}
		after := db.wallClock()
		if took := after.Sub(before); i == 0 || took < best {
			best, skew, readAt = took, server.Sub(after).Round(time.Millisecond), after
		}
		if best <= maxReadTime {
			break
		}
	}
	db.skews.Put(struct{}{}, ttlcache.Entry[time.Duration]{Value: skew, ReadAt: readAt})
	return skew, nil
}

// wallClock is without the monotonic clock, which may stand still in a frozen Lambda.
func (db *DB) wallClock() time.Time { return db.now().Round(0) }

// serverNow returns the time of the server's clock, and its skew.
func (db *DB) serverNow(ctx context.Context) (now time.Time, skew time.Duration, err error) {
	skew, err = db.skew(ctx)
	return db.wallClock().Add(skew), skew, err
}

// Time returns the time of the server's clock.
func (db *DB) Time(ctx context.Context) (time.Time, error) {
	now, _, err := db.serverNow(ctx)
	return now, err
}

// handshakeTime reads the clock of the primary, or of the router before it. The driver sends the
// same command when it connects, so every server knows it and every user may send it.
func (db *DB) handshakeTime(ctx context.Context) (time.Time, error) {
	client, err := db.connected()
	if err != nil {
		return time.Time{}, err
	}
	doc, err := single(ctx, client.Database("admin").RunCommand(ctx, bson.D{{Key: "isMaster", Value: 1}}))
	if err != nil {
		return time.Time{}, err
	}
	at, ok := doc.Lookup("localTime").TimeOK()
	if !ok {
		return time.Time{}, errors.New("mongodb: the handshake has no time")
	}
	return at, nil
}

// shift moves a time by a duration. The zero time says "none", and stays.
func shift(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}
