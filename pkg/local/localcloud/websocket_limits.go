package localcloud

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// socketLimits bound one connection.
type socketLimits struct {
	idle time.Duration // without a message in either direction
	life time.Duration
	// write is how long sending one frame may take. A client that reads slowly takes some of
	// what the network has buffered before that shows here.
	write time.Duration
	// closing is how long the rest may take once the connection ends.
	closing time.Duration
	// frames and bytes bound what waits for the client.
	frames, bytes int
}

// defaultSocketLimits returns API Gateway's limits, and our own where API Gateway has none. A
// frame may take longer than the minute after which the service cuts a client that is too slow.
func defaultSocketLimits() socketLimits {
	return socketLimits{
		idle: stream.MaxIdle, life: stream.MaxConnection, write: 90 * time.Second, closing: 10 * time.Second, frames: 256, bytes: 2 << 20,
	}
}

const (
	// integrationTimeout is how long API Gateway waits for a function.
	integrationTimeout = 29 * time.Second
	// messageBacklog is how many messages of a client wait while one is handled.
	// When it is full, the connection reads no more.
	messageBacklog = 8
)

// The reasons that API Gateway gives when it closes a connection.
const (
	closedNormally = "Connection Closed Normally"
	goingAway      = "Going away"
)
