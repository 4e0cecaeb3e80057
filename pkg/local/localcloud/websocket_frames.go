package localcloud

import (
	"encoding/binary"
	"net"
	"sync/atomic"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// frameMeter is the network connection below a client's WebSocket. The WebSocket
// library returns whole messages. API Gateway limits single frames too, so the
// meter finds the messages that have a frame over the limit.
type frameMeter struct {
	net.Conn
	header []byte // the part of a frame's header that was read
	rest   uint64 // bytes of the frame's payload that were not read yet
	ended  int64  // messages whose last frame has begun
	// tooLong is the number of the first message with a frame over
	// stream.MaxFrameBytes, counted from 1; 0 if there is none so far.
	tooLong atomic.Int64
}

// Read implements net.Conn.
func (m *frameMeter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.measure(p[:n])
	return n, err
}

// measure follows the next bytes that the client sent.
func (m *frameMeter) measure(b []byte) {
	for len(b) > 0 {
		if m.rest > 0 {
			n := min(m.rest, uint64(len(b)))
			m.rest, b = m.rest-n, b[n:]
			continue
		}
		m.header, b = append(m.header, b[0]), b[1:]
		if length, complete := payloadLength(m.header); complete {
			m.begin(m.header[0], length)
			m.header = m.header[:0]
		}
	}
}

// begin notes a frame by its first byte and the length of its payload.
func (m *frameMeter) begin(first byte, length uint64) {
	const final, control = 0x80, 0x08
	m.rest = length
	if first&control != 0 { // a control frame is not part of a message
		return
	}
	if length > stream.MaxFrameBytes {
		m.tooLong.CompareAndSwap(0, m.ended+1)
	}
	if first&final != 0 {
		m.ended++
	}
}

// payloadLength parses a frame's header (RFC 6455, section 5.2). complete is false
// if bytes of the header are missing.
func payloadLength(header []byte) (length uint64, complete bool) {
	const masked, key = 0x80, 4
	if len(header) < 2 {
		return 0, false
	}
	end := 2
	switch length = uint64(header[1] &^ masked); length {
	case 126:
		end += 2
	case 127:
		end += 8
	}
	size := end
	if header[1]&masked != 0 {
		size += key
	}
	if len(header) < size {
		return 0, false
	}
	if end > 2 {
		var extended [8]byte
		copy(extended[8-(end-2):], header[2:end])
		length = binary.BigEndian.Uint64(extended[:])
	}
	return length, true
}
