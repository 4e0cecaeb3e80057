package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// A block has documents of one tenant, which are compressed together: a zstd frame (RFC 8878) of
// their number, the length of each, and their texts. The numbers are varints as in package
// encoding/binary. A removed document has the length 0, so that the others keep their places.
const (
	// blockDocs and blockBytes bound the documents of a block. A larger document has one for
	// itself. Reading one document unpacks its block, which takes about 10 µs.
	blockDocs  = 256
	blockBytes = 64 << 10
	// cellBytes is what blocks may fill of a page of the file, which must have a whole number of them.
	cellBytes = pageBytes - pageBytes/64
	// targetBytes is the size that blocks should have: two of them fill a page.
	targetBytes = cellBytes / 2
	// headBytes is what the first documents of such a block take more than those that follow.
	headBytes = targetBytes / 5
	// maxBlockBytes bounds the memory for an unpacked block. It is far more than a block has.
	maxBlockBytes = 16 << 20
)

// The codecs have no state between calls and may be used concurrently.
var (
	blockEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(blockBytes), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(fmt.Sprintf("zstd encoder: %v", err)) // the options are constant
		}
		return e
	})
	blockDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlockBytes), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(fmt.Sprintf("zstd decoder: %v", err)) // the options are constant
		}
		return d
	})
)

// blockSizer knows how well documents compress, from the blocks so far. It is safe for
// concurrent use.
type blockSizer struct {
	text atomic.Int64 // the bytes of documents that compress to targetBytes, about; 0: none yet
}

// firstText is the assumption for the first block.
const firstText = 24 << 10

// bytes returns how many bytes of documents a block of targetBytes has.
func (s *blockSizer) bytes() int {
	text := s.text.Load()
	if text == 0 {
		text = firstText
	}
	return int(min(max(text, targetBytes), blockBytes))
}

// note learns from a block.
func (s *blockSizer) note(text, block int) {
	fitting := int64(text) * (targetBytes - headBytes) / int64(max(block-headBytes, 1))
	fitting = min(max(fitting, targetBytes), blockBytes) // so that one tenant's documents change little
	if before := s.text.Load(); before > 0 {
		fitting = before + (fitting-before)/8
	}
	s.text.Store(fitting)
}

// parts returns into how many blocks documents should be divided, so that they fill as few pages
// as possible.
func (s *blockSizer) parts(text int) int {
	best, pages := 1, math.Inf(1)
	for parts := 1; parts <= 2+2*text/s.bytes(); parts++ {
		size := headBytes + (targetBytes-headBytes)*(text/parts)/s.bytes()
		if need := float64(parts) / float64(cellBytes/size); need < pages { // infinite if one is larger than a page
			best, pages = parts, need
		}
	}
	return best
}

// packDocs returns the block of documents.
func packDocs(docs [][]byte) []byte {
	size := binary.MaxVarintLen32 * (len(docs) + 1)
	for _, doc := range docs {
		size += len(doc)
	}
	text := binary.AppendUvarint(make([]byte, 0, size), uint64(len(docs)))
	for _, doc := range docs {
		text = binary.AppendUvarint(text, uint64(len(doc)))
	}
	for _, doc := range docs {
		text = append(text, doc...)
	}
	return blockEncoder().EncodeAll(text, nil)
}

// errBadDocs says that the file has documents that this package did not write.
var errBadDocs = errors.New("the documents are damaged")

// unpackDocs returns the documents of a block.
func unpackDocs(data []byte) ([][]byte, error) {
	text, err := blockDecoder().DecodeAll(data, nil)
	if err != nil {
		return nil, errBadDocs // the error of zstd could quote content
	}
	p := parser[[]byte]{text: text}
	docs := make([][]byte, p.count())
	lengths := make([]int, len(docs))
	for i := range lengths {
		lengths[i] = p.count()
	}
	for i, length := range lengths {
		docs[i] = p.bytes(length)
	}
	if p.end() != nil {
		return nil, errBadDocs
	}
	return docs, nil
}
