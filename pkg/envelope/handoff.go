package envelope

import (
	"hash/maphash"
	"sync"
	"time"
)

// Handoff remembers the entries of messages that this process has packed, until it receives the
// messages itself. It then need not decompress and parse them, which is a tenth of all that an
// embedded engine does for an entry. A message that it does not have is unpacked as any other, so that
// it may forget each at any time. A nil *Handoff remembers nothing.
type Handoff struct {
	max  int // bytes of lines
	now  func() time.Time
	seed maphash.Seed

	mu    sync.Mutex
	kept  map[uint64]kept // by the hash of the body
	bytes int
	aged  time.Time // when old messages were last removed
}

type kept struct {
	body     string
	contents Contents
	at       time.Time
}

// handoffTime is how long a message is kept if others need its place. One that is received later
// waits behind so many others that the bound keeps none of its neighbours either, or another process
// has received it.
const handoffTime = 5 * time.Second

// maxHandedOn bounds the lines of the entries that a Packer keeps for a Handoff, in bytes. The entries
// of the largest requests would need more memory than all else that is done for them.
const maxHandedOn = 2 << 20

// NewHandoff returns a Handoff for messages whose lines have at most maxBytes together. In memory,
// entries need a few times as much.
func NewHandoff(maxBytes int, now func() time.Time) *Handoff {
	return &Handoff{max: maxBytes, now: now, seed: maphash.MakeSeed(), kept: map[uint64]kept{}}
}

// put remembers a message. The entries must not be changed any more. If there is no place, it
// remembers the older ones, which are received first.
func (h *Handoff) put(body string, contents Contents) {
	now, hash := h.now(), maphash.String(h.seed, body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes+contents.Size > h.max {
		h.age(now)
	}
	if _, taken := h.kept[hash]; taken || h.bytes+contents.Size > h.max {
		return
	}
	h.kept[hash] = kept{body: body, contents: contents, at: now}
	h.bytes += contents.Size
}

// age removes old messages, at most once a second.
func (h *Handoff) age(now time.Time) {
	if now.Sub(h.aged) < time.Second {
		return
	}
	h.aged = now
	for hash, k := range h.kept {
		if now.Sub(k.at) > handoffTime {
			delete(h.kept, hash)
			h.bytes -= k.contents.Size
		}
	}
}

// Len returns the number of messages that h remembers.
func (h *Handoff) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.kept)
}

// take returns the contents of a message and forgets them.
func (h *Handoff) take(body string) (Contents, bool) {
	hash := maphash.String(h.seed, body)
	h.mu.Lock()
	defer h.mu.Unlock()
	k, found := h.kept[hash]
	if !found || k.body != body {
		return Contents{}, false
	}
	delete(h.kept, hash)
	h.bytes -= k.contents.Size
	return k.contents, true
}

// unpack is Unpack, which need not read what is remembered.
func (h *Handoff) unpack(body string) (Contents, error) {
	if h != nil {
		if contents, found := h.take(body); found {
			return contents, nil
		}
	}
	return Unpack(body)
}
