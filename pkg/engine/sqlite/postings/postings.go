// Package postings is a full-text index of immutable segments, without the storage below. Build makes a
// segment of prepared documents, Snapshot.Merge one of several segments, and Snapshot.Search finds
// documents in segments. Whoever uses the package stores the pages of the segments.
//
// # Segments
//
// A document has a key, which orders the documents, and tokens. The documents of a segment have the
// ordinals 0, 1, 2 … in the order of their keys. For each token a segment has the list of the ordinals of
// the documents with it. A token of a document's sequence also has positions, from 1 on.
//
// A segment consists of pages, which have numbers from 0 on. Page 0 is the directory. The pages of a
// whole segment follow the directory in its page 0 instead of being pages of their own. Pages are
// written in this order: keys, then chunks and tokens mixed, at last the directory.
//
// # Format
//
// Numbers of fixed length are little-endian. A varint is an unsigned number of encoding/binary. Each
// page is its kind, which is one letter, its content, and a CRC-32C of both.
//
// A directory (D) has the version 1 in one byte, its own length, the number of documents and the number
// of the other pages in four bytes each, and one byte that is 1 if the segment is whole. The highest key
// follows in eight bytes, the first key of each page of keys in eight bytes each, and, if the segment is
// whole, where each of the other pages ends in four bytes each, counted from the end of the directory.
// The rest is a table, unless the segment has no tokens: for each page of tokens a text that is after
// all tokens of the pages before and not after its own, with the page's number as a varint.
//
// A page of keys (K) has 2,048 keys, the last one fewer. Page 1 is the first one. It has blocks of
// 128 keys. A table of blocks has for each block its first key in eight bytes, the offset of its other
// keys from the beginning of the table in four bytes, and their width in one. These keys follow as
// differences from the first one, each in as many bytes as the width says.
//
// A page of tokens (T) is a table of the tokens with their lists.
//
// A table has entries in the order of their tokens, compared as bytes. An entry is how many bytes of its
// token the token before has too, the length of the rest, the rest, and the value's length and kind as one
// varint: the length times four and the kind. Then comes the value. Every 16th entry has its token as a
// whole. The offsets of these entries follow the last entry in four bytes each, and their number in four.
//
// The value of a token is a list of one of four kinds:
//
//   - 0: fewer than 128 documents without positions. For each document the gap as a varint, which is how
//     many ordinals lie between the document and the one before.
//   - 1: fewer than 128 documents with positions. Each gap is followed by the document's positions.
//   - 2: a chunk.
//   - 3: chunks with pages of their own. A varint has the number of documents times two, plus 1 if they
//     have positions. For each chunk follow its last ordinal and its page in four bytes each.
//
// A chunk is blocks of 128 documents, the last one fewer. It begins with a varint as in a list of kind 3,
// and a varint with the ordinal after that of the last document before the chunk, 0 for the first one. A
// table has for each block its last ordinal and its end in four bytes each, counted from the end of the
// table. A block is the gap before its first document as a varint, a byte with a number of bits, the gaps
// between the documents with so many bits each, the lowest bits first, and the positions of each document.
// A page of a chunk (C) has one chunk.
//
// The positions of a document are differences as varints, each times two, plus 1 if another one
// follows. A document that does not have the token in its sequence has a single 0.
package postings

import (
	"context"
	"errors"
)

// ErrDamaged is the error of a page that is not as it was written.
var ErrDamaged = errors.New("damaged full-text page")

// Info describes a segment. Whoever stores the segment gives it a number and a level.
type Info struct {
	Number      int64 // no other segment ever has it, not even after this one was removed
	Level       int
	Docs        int
	First, Last int64 // the lowest and the highest key
	Pages       int   // pages 1 to Pages; page 0 exists always
	Bytes       int64 // of all pages
}

// Source reads pages of segments. The result is not changed any more.
type Source interface {
	Page(ctx context.Context, segment int64, page int) ([]byte, error)
}

// Segment is a segment of a snapshot. Removed has a bit for each document that was removed, in the order
// of the keys, and may be shorter than the documents. It is not changed any more.
type Segment struct {
	Info
	Removed []uint64
}

// isRemoved reports whether a document was removed.
func isRemoved(removed []uint64, ordinal uint32) bool {
	word := int(ordinal / 64)
	return word < len(removed) && removed[word]>>(ordinal%64)&1 == 1
}
