package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
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

// clockSkew is how far the server's clock is ahead of this process' clock. It goes by wall
// clocks, because the monotonic clock of a frozen Lambda may stand still.
type clockSkew struct {
	mu     sync.Mutex
	value  time.Duration // whole milliseconds
	readAt time.Time
}

// skew returns how far the server's clock is ahead of this process' clock, as it was at most
// skewTTL ago. Times that processes compare are stored by the server's clock: a process adds
// the skew before it stores a time, and subtracts it after it has read one.
func (db *DB) skew(ctx context.Context) (time.Duration, error) {
	if skew, fresh := db.clocks.at(db.wallClock()); fresh {
		return skew, nil
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
	db.clocks.set(skew, readAt)
	return skew, nil
}

func (c *clockSkew) at(now time.Time) (skew time.Duration, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.readAt)
	return c.value, age >= 0 && age < skewTTL
}

func (c *clockSkew) set(skew time.Duration, readAt time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value, c.readAt = skew, readAt
}

func (db *DB) wallClock() time.Time { return db.now().Round(0) }

// serverNow returns the time of the server's clock.
func (db *DB) serverNow(ctx context.Context) (time.Time, error) {
	skew, err := db.skew(ctx)
	return db.wallClock().Add(skew), err
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
