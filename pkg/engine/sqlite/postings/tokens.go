package postings

import (
	"bytes"
	"context"
	"iter"
)

// Tokens yields the tokens of each segment in rising order, one segment after the other, those of removed
// documents included: everything that the segments tell of texts. It stops after an error.
func (s *Snapshot) Tokens(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := newReader(ctx, s, false)
		for i := range s.Segments {
			in := r.open(s.Segments[i].Info)
			if in == nil {
				break
			}
			for c := in.tokensFrom(""); c.next() && !r.stopped(); {
				if !yield(bytes.Clone(c.token), nil) {
					return
				}
			}
			if r.err != nil {
				break
			}
		}
		if r.err != nil {
			yield(nil, r.err)
		}
	}
}
