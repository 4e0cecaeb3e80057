package postings

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

const (
	// keysPerPage is how many keys a page has, except the last one of a segment.
	keysPerPage = 2048
	// keysPerBlock is how many of them have the same base.
	keysPerBlock = 128
	// keyBlockBytes is the length of a block in the table of blocks: base, offset and width.
	keyBlockBytes = 8 + 4 + 1
)

// appendKeysPage appends a page of keys in rising order.
func appendKeysPage(page []byte, keys []int64) []byte {
	page = append(page, pageKeys)
	head := len(page)
	blocks := (len(keys) + keysPerBlock - 1) / keysPerBlock
	page = append(page, make([]byte, blocks*keyBlockBytes)...)
	for i := range blocks {
		block := keys[i*keysPerBlock : min((i+1)*keysPerBlock, len(keys))]
		base := block[0]
		width := (bits.Len64(uint64(block[len(block)-1])-uint64(base)) + 7) / 8
		entry := page[head+i*keyBlockBytes:]
		binary.LittleEndian.PutUint64(entry, uint64(base))
		binary.LittleEndian.PutUint32(entry[8:], uint32(len(page)-head))
		entry[12] = byte(width)
		for _, key := range block[1:] {
			var offset [8]byte
			binary.LittleEndian.PutUint64(offset[:], uint64(key)-uint64(base))
			page = append(page, offset[:width]...)
		}
	}
	return seal(page)
}

// keysPage is a page of n keys.
type keysPage struct {
	data []byte // the table of blocks, and the blocks
	n    int
}

// parseKeysPage returns the keys of a page without its kind and its checksum.
func parseKeysPage(data []byte, n int) (p keysPage, ok bool) {
	blocks := (n + keysPerBlock - 1) / keysPerBlock
	if n < 1 || len(data) < blocks*keyBlockBytes {
		return keysPage{}, false
	}
	for i := range blocks {
		in := min(keysPerBlock, n-i*keysPerBlock) - 1
		entry := data[i*keyBlockBytes:]
		from, width := uint64(binary.LittleEndian.Uint32(entry[8:])), uint64(entry[12])
		if width > 8 || from+uint64(in)*width > uint64(len(data)) {
			return keysPage{}, false
		}
	}
	return keysPage{data, n}, true
}

func (p *keysPage) base(block int) int64 {
	return int64(binary.LittleEndian.Uint64(p.data[block*keyBlockBytes:]))
}

// key returns the i-th key.
func (p *keysPage) key(i int) int64 {
	entry := p.data[i/keysPerBlock*keyBlockBytes:]
	base := binary.LittleEndian.Uint64(entry)
	if i%keysPerBlock == 0 {
		return int64(base)
	}
	width := int(entry[12])
	from := int(binary.LittleEndian.Uint32(entry[8:])) + (i%keysPerBlock-1)*width
	if from+8 <= len(p.data) {
		return int64(base + binary.LittleEndian.Uint64(p.data[from:])&(1<<(8*width)-1))
	}
	var offset [8]byte
	copy(offset[:width], p.data[from:])
	return int64(base + binary.LittleEndian.Uint64(offset[:]))
}

// search returns the number of the first key that is not less than a key.
func (p *keysPage) search(key int64) int {
	blocks := (p.n + keysPerBlock - 1) / keysPerBlock
	block := max(0, sort.Search(blocks, func(i int) bool { return p.base(i) > key })-1)
	from := block * keysPerBlock
	return from + sort.Search(min(keysPerBlock, p.n-from), func(i int) bool { return p.key(from+i) >= key })
}
