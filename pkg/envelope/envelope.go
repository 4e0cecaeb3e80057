// Package envelope is the form of the messages that carry entries from step to
// step: many entries of one tenant packed into one queue message. Its JSON
// Schema is events/schemas/envelope.json.
package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Version is the version of the form that Pack writes. Unpack reads it and every earlier one.
const Version = 1

// TargetBytes is the size that messages are packed to. SQS bills a request by
// chunks of 64 KB; the rest is for the message's attributes. A single entry
// that does not compress may pass it; the largest possible stays below SQS's 1 MiB.
const TargetBytes = 60 << 10

// maxLines is how many bytes of lines a message has at most, but for one entry
// that is larger: a consumer unpacks ten messages at once, each in many times
// its size, and lines that resemble each other pack to a hundredth.
const maxLines = 1 << 20

// maxUnpacked bounds what one message may unpack to: a batch is at most 16 MiB
// on its way in, and the service's own fields are added to that.
const maxUnpacked = 64 << 20

const encodingZstd = "zstd"

// message is the JSON form. Data is the base64 text of zstd-compressed lines,
// each an entry as entryjson.AppendStored writes it.
type message struct {
	Version  int            `json:"v"`
	Tenant   audit.TenantID `json:"tenant"`
	Count    int            `json:"count"`
	Encoding string         `json:"encoding"`
	Data     string         `json:"data"`
	Reason   string         `json:"reason,omitempty"`
}

// smallBytes is up to which size lines are packed without entropy coding, which
// costs a lone entry more time than it saves space: SQS bills it as one chunk either way.
const smallBytes = 4 << 10

// The codecs hold no state between calls and may be used concurrently.
var (
	encoder      = sync.OnceValue(func() *zstd.Encoder { return newEncoder() })
	smallEncoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(zstd.WithNoEntropyCompression(true)) })
	decoder      = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

func newEncoder(options ...zstd.EOption) *zstd.Encoder {
	options = append(options, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	e, err := zstd.NewWriter(nil, options...)
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// Packer gathers entries of one tenant and packs them into messages. The zero
// Packer of a tenant is ready for use.
type Packer struct {
	Tenant audit.TenantID
	lines  []byte
	ends   []int // the end of each line in lines
}

// Grow makes room for that many entries, whose text as submitted has size bytes
// in all. It only saves time.
func (p *Packer) Grow(entries, size int) {
	const added = 400 // bytes that the service's own fields add to an entry, about
	p.lines = slices.Grow(p.lines, size+entries*added)
	p.ends = slices.Grow(p.ends, entries)
}

// Add appends an entry. The packer keeps no reference to it.
func (p *Packer) Add(e *audit.Entry) {
	p.lines = append(entryjson.AppendStored(p.lines, e), '\n')
	p.ends = append(p.ends, len(p.lines))
}

// Len returns how many entries were added.
func (p *Packer) Len() int { return len(p.ends) }

// Messages returns the messages that hold all added entries, in their order:
// as few as TargetBytes and a bound of what they unpack to allow, none where no entry was added.
func (p *Packer) Messages() ([]string, error) {
	return p.pack(nil, 0, len(p.ends))
}

// pack appends the messages of the entries from the first to before the last.
func (p *Packer) pack(messages []string, first, last int) ([]string, error) {
	if first == last {
		return messages, nil
	}
	start := 0
	if first > 0 {
		start = p.ends[first-1]
	}
	if size := p.ends[last-1] - start; size > maxLines && last-first > 1 {
		return p.packParts(messages, first, last, size/maxLines+1)
	}
	body, err := encode(message{Tenant: p.Tenant, Count: last - first}, p.lines[start:p.ends[last-1]])
	if err != nil {
		return nil, err
	}
	if len(body) <= TargetBytes || last-first == 1 {
		return append(messages, body), nil
	}
	return p.packParts(messages, first, last, len(body)/TargetBytes+1)
}

// packParts appends the messages of as many parts as are likely to fit, each at
// least one entry.
func (p *Packer) packParts(messages []string, first, last, parts int) ([]string, error) {
	parts = min(parts, last-first)
	for i := range parts {
		from, to := first+(last-first)*i/parts, first+(last-first)*(i+1)/parts
		var err error
		if messages, err = p.pack(messages, from, to); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// scratches hold what encode needs between two calls.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

type scratch struct{ packed, body []byte }

// maxPooled is the largest scratch that is kept for the next call.
const maxPooled = 1 << 20

func (s *scratch) release() {
	if cap(s.packed)+cap(s.body) <= maxPooled {
		scratches.Put(s)
	}
}

// encode writes the message's JSON form. The data, most of it, needs no escapes.
func encode(m message, lines []byte) (string, error) {
	m.Version, m.Encoding = Version, encodingZstd
	head, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("pack %d entries of %s: %w", m.Count, m.Tenant, err)
	}
	before, after, _ := bytes.Cut(head, []byte(emptyData)) // nothing before it can hold a quote
	s := scratches.Get().(*scratch)
	defer s.release()
	packer := encoder()
	if len(lines) <= smallBytes {
		packer = smallEncoder()
	}
	s.packed = packer.EncodeAll(lines, s.packed[:0])
	s.body = append(append(s.body[:0], before...), emptyData[:len(emptyData)-1]...)
	s.body = append(base64.StdEncoding.AppendEncode(s.body, s.packed), '"')
	return string(append(s.body, after...)), nil
}

// emptyData is the member Data of a message that has none yet.
const emptyData = `"data":""`

// Pack returns the messages that hold the entries, see Packer.Messages.
func Pack(tenant audit.TenantID, entries []audit.Entry) ([]string, error) {
	p := Packer{Tenant: tenant}
	for i := range entries {
		p.Add(&entries[i])
	}
	return p.Messages()
}

// Contents is what a message holds.
type Contents struct {
	Tenant  audit.TenantID
	Entries []audit.Entry
	// Poison are the lines that are no entry of the tenant.
	Poison []Poison
	// Size is the number of bytes that all lines have.
	Size int
}

// Poison is a line that cannot be read as an entry.
type Poison struct {
	Line   []byte
	Reason string // without content of the line
}

// ErrVersion says that a message was packed by a later release.
var ErrVersion = errors.New("unknown version of an entries message")

// Unpack reads a message. Lines that cannot be read are returned as Poison; the
// error, which is an audit.ErrUnreadable or ErrVersion, is about the whole body.
func Unpack(body string) (Contents, error) {
	var m message
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return Contents{}, fmt.Errorf("%w: not its JSON form", audit.ErrUnreadable)
	}
	if m.Version < 1 {
		return Contents{}, fmt.Errorf("%w: no version", audit.ErrUnreadable)
	}
	if m.Version > Version {
		return Contents{}, fmt.Errorf("%w: %d, known are 1 to %d", ErrVersion, m.Version, Version)
	}
	if _, err := audit.ParseTenantID(string(m.Tenant)); err != nil {
		return Contents{}, fmt.Errorf("%w: no tenant", audit.ErrUnreadable)
	}
	if m.Encoding != encodingZstd {
		return Contents{}, fmt.Errorf("%w: unknown encoding", audit.ErrUnreadable)
	}
	packed, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil {
		return Contents{}, fmt.Errorf("%w: data is not base64", audit.ErrUnreadable)
	}
	lines, err := decoder().DecodeAll(packed, nil)
	if err != nil {
		return Contents{}, fmt.Errorf("%w: data is not zstd of at most %d bytes", audit.ErrUnreadable, maxUnpacked)
	}
	return readLines(m.Tenant, lines), nil
}

func readLines(tenant audit.TenantID, lines []byte) Contents {
	contents := Contents{Tenant: tenant, Size: len(lines), Entries: make([]audit.Entry, 0, bytes.Count(lines, []byte{'\n'}))}
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		entry, err := entryjson.ParseStored(line)
		switch {
		case err != nil:
			contents.Poison = append(contents.Poison, Poison{Line: bytes.Clone(line), Reason: err.Error()})
		case entry.Tenant != tenant || entry.ID.IsZero() || entry.Timestamp.UnixMilli() != entry.ID.Time().UnixMilli():
			contents.Poison = append(contents.Poison, Poison{Line: bytes.Clone(line), Reason: "tenant, id or timestamp do not fit the message"})
		default:
			contents.Entries = append(contents.Entries, entry)
		}
	}
	return contents
}

// PackPoison returns a message that holds one unreadable line and the reason,
// for a dead-letter queue.
func PackPoison(tenant audit.TenantID, poison Poison) (string, error) {
	return encode(message{Tenant: tenant, Count: 1, Reason: poison.Reason}, append(bytes.Clone(poison.Line), '\n'))
}
