package postings

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"sync"
)

// Doc is the tokens of a document, separated by single spaces. Those of Sequence have positions and
// match phrases. Those of Set have none.
type Doc struct{ Sequence, Set []byte }

// Batch is documents that are prepared for a segment. They have no keys yet.
type Batch struct {
	docs   int
	text   []byte       // of all tokens
	tokens []batchToken // in rising order
	places []place      // of the tokens, one token after the other
}

type batchToken struct {
	from, to uint32 // in the text
	shared   uint32 // how many bytes the token before has too
	end      uint32 // of its places
	placed   bool   // one of them has a position
}

// place is where a token is. The position is 0 if it is in the set, otherwise it is its number in the
// sequence, from 1 on.
type place struct{ doc, position uint32 }

// NewBatch prepares documents. Several goroutines may do so at the same time. The batch does not
// refer to the documents.
func NewBatch(docs []Doc) *Batch {
	n := newNumbering()
	defer numberings.Put(n)
	for i := range docs {
		n.addDoc(uint32(i), docs[i].Sequence, true)
		n.addDoc(uint32(i), docs[i].Set, false)
	}
	return n.batch(len(docs))
}

// numbering gives tokens numbers in the order in which they are found.
type numbering struct {
	table  []uint64 // by the hash: the hash's upper half, and the number plus 1; 0 is free
	text   []byte
	tokens []numbered
	found  []found
	order  []uint64 // their numbers, see sort
	spare  []uint64
}

type numbered struct {
	from, to uint32 // in the text
	places   uint32
	last     uint32 // the document in whose set it was found last, plus 1
	placed   bool
}

type found struct {
	token uint32
	place
}

var (
	numberings = sync.Pool{New: func() any { return &numbering{table: make([]uint64, 1024)} }}
	seed       = maphash.MakeSeed()
)

// maxKept is the length of the longest table that is used again.
const maxKept = 1 << 18

func newNumbering() *numbering {
	n := numberings.Get().(*numbering)
	if len(n.table) > maxKept {
		return &numbering{table: make([]uint64, 1024)}
	}
	clear(n.table)
	n.text, n.tokens, n.found, n.order = n.text[:0], n.tokens[:0], n.found[:0], n.order[:0]
	return n
}

func (n *numbering) addDoc(doc uint32, tokens []byte, sequence bool) {
	position := uint32(0)
	for len(tokens) > 0 {
		token := tokens
		if end := bytes.IndexByte(tokens, ' '); end >= 0 {
			token, tokens = tokens[:end], tokens[end+1:]
		} else {
			tokens = nil
		}
		if len(token) == 0 {
			continue
		}
		number := n.number(token)
		t := &n.tokens[number]
		if sequence {
			position++
			t.placed = true
		} else if t.last == doc+1 {
			continue
		} else {
			t.last = doc + 1
		}
		t.places++
		n.found = append(n.found, found{number, place{doc, position}})
	}
}

// number returns the number of a token.
func (n *numbering) number(token []byte) uint32 {
	hash := maphash.Bytes(seed, token)
	mask := uint64(len(n.table) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := n.table[at]
		if slot == 0 {
			n.tokens = append(n.tokens, numbered{from: uint32(len(n.text)), to: uint32(len(n.text) + len(token))})
			n.text = append(n.text, token...)
			n.table[at] = hash&^(1<<32-1) | uint64(len(n.tokens))
			if 2*len(n.tokens) > len(n.table) {
				n.grow()
			}
			return uint32(len(n.tokens) - 1)
		}
		if (slot^hash)>>32 == 0 {
			number := uint32(slot) - 1
			if t := &n.tokens[number]; string(n.text[t.from:t.to]) == string(token) {
				return number
			}
		}
	}
}

func (n *numbering) grow() {
	n.table = make([]uint64, 4*len(n.table))
	mask := uint64(len(n.table) - 1)
	for i := range n.tokens {
		t := &n.tokens[i]
		hash := maphash.Bytes(seed, n.text[t.from:t.to])
		at := hash & mask
		for n.table[at] != 0 {
			at = (at + 1) & mask
		}
		n.table[at] = hash&^(1<<32-1) | uint64(i+1)
	}
}

// batch returns the tokens in their order.
func (n *numbering) batch(docs int) *Batch {
	for i := range n.tokens {
		n.order = append(n.order, uint64(i))
	}
	n.sort(n.order, 0)
	b := &Batch{
		docs:   docs,
		text:   make([]byte, 0, len(n.text)),
		tokens: make([]batchToken, len(n.tokens)),
		places: make([]place, len(n.found)),
	}
	end := uint32(0)
	var last []byte
	for i, o := range n.order {
		t := &n.tokens[uint32(o)]
		token := n.text[t.from:t.to]
		from := uint32(len(b.text))
		b.text = append(b.text, token...)
		b.tokens[i] = batchToken{from, uint32(len(b.text)), uint32(commonPrefix(last, token)), end + t.places, t.placed}
		t.places, end = end, end+t.places // where its next place goes
		last = token
	}
	for _, f := range n.found {
		t := &n.tokens[f.token]
		b.places[t.places] = f.place
		t.places++
	}
	return b
}

// fewTokens is how many tokens are compared one with another.
const fewTokens = 12

// sort sorts tokens that are the same up to a depth. The lower half of each is its number. The upper
// half becomes four bytes of it, so that most tokens are compared as numbers.
func (n *numbering) sort(order []uint64, depth uint32) {
	if len(order) <= fewTokens {
		n.compare(order, depth)
		return
	}
	first := n.after(order[0], depth)
	for _, o := range order[1:] {
		first = first[:commonPrefix(first, n.after(o, depth))]
	}
	depth += uint32(len(first))
	for i, o := range order {
		order[i] = n.key(o, depth)<<32 | o&math.MaxUint32
	}
	n.sortNumbers(order)
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && order[to]>>32 == order[from]>>32 {
			to++
		}
		switch same := order[from:to]; {
		case len(same) == 1:
		case byte(same[0]>>32) == 0: // some may end here
			n.compare(same, depth)
		default:
			n.sort(same, depth+4)
		}
		from = to
	}
}

// fewNumbers is from how many numbers on sorting them digit by digit is faster.
const fewNumbers = 64

// sortNumbers sorts numbers by their upper halves.
func (n *numbering) sortNumbers(numbers []uint64) {
	if len(numbers) < fewNumbers {
		slices.Sort(numbers)
		return
	}
	n.spare = slices.Grow(n.spare[:0], len(numbers))
	from, to := numbers, n.spare[:len(numbers)]
	for shift := 32; shift < 64; shift += 8 {
		var ends [256]uint32
		for _, x := range from {
			ends[byte(x>>shift)]++
		}
		if ends[byte(from[0]>>shift)] == uint32(len(from)) {
			continue // all have the same digit
		}
		sum := uint32(0)
		for digit, n := range ends {
			ends[digit] = sum
			sum += n
		}
		for _, x := range from {
			digit := byte(x >> shift)
			to[ends[digit]] = x
			ends[digit]++
		}
		from, to = to, from
	}
	copy(numbers, from)
}

// compare sorts tokens by comparing them.
func (n *numbering) compare(order []uint64, depth uint32) {
	slices.SortFunc(order, func(a, b uint64) int { return bytes.Compare(n.after(a, depth), n.after(b, depth)) })
}

// after returns a token from a depth on.
func (n *numbering) after(o uint64, depth uint32) []byte {
	t := &n.tokens[uint32(o)]
	return n.text[min(t.from+depth, t.to):t.to]
}

// key returns four bytes of a token from a depth on.
func (n *numbering) key(o uint64, depth uint32) uint64 {
	rest := n.after(o, depth)
	if len(rest) >= 4 {
		return uint64(binary.BigEndian.Uint32(rest))
	}
	var padded [4]byte
	copy(padded[:], rest)
	return uint64(binary.BigEndian.Uint32(padded[:]))
}

// run reads the tokens of a batch in rising order.
type batchRun struct {
	*Batch
	at   int    // the next token
	from uint32 // its places
}

func (r *batchRun) next() (token []byte, shared int, ok bool) {
	if r.at == len(r.tokens) {
		return nil, 0, false
	}
	if r.at > 0 {
		r.from = r.tokens[r.at-1].end
	}
	t := &r.tokens[r.at]
	r.at++
	return r.text[t.from:t.to], int(t.shared), true
}
