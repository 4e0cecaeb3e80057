package postings

// run is tokens in rising order. shared is how many bytes of a token the one before has too. A token
// is valid until the next one.
type run interface {
	next() (token []byte, shared int, ok bool)
}

// tournament merges runs. It is a tree of losers: each match of two tokens is played once, and only
// those of the run whose token was taken are played again.
//
// A token's code is its order relative to a lower token, its base: of two tokens the one that shares
// more with the base is the lower one, and of those that share as much, the one whose next byte is
// lower. So most matches compare codes only. Both tokens of a match have the same base. It is the token
// that was taken last: it beat the loser that waits at the match, and it was in the challenger's run.
type tournament struct {
	runs   []run
	tokens [][]byte
	codes  []uint64
	losers []int // by match; 0 is the winner of all
	taken  bool  // the winner's token was taken
}

// ended is the code of a run without another token.
const ended = ^uint64(0)

// codeOf returns the code of a token that shares so many bytes with its base.
func codeOf(token []byte, shared int) uint64 {
	next := uint64(0) // the token equals its base
	if shared < len(token) {
		next = uint64(token[shared]) + 1
	}
	return (1<<32-uint64(shared))<<9 | next
}

// sharedOf returns how many bytes a token shares with the base of its code.
func sharedOf(code uint64) int { return 1<<32 - int(code>>9) }

// isBase reports whether a token equals the base of its code.
func isBase(code uint64) bool { return code&(1<<9-1) == 0 }

func newTournament(runs []run) *tournament {
	n := len(runs)
	t := &tournament{runs: runs, tokens: make([][]byte, n), codes: make([]uint64, n), losers: make([]int, n)}
	for i := range runs {
		t.advance(i)
	}
	if n > 0 {
		t.losers[0] = t.play(1)
	}
	return t
}

func (t *tournament) advance(run int) {
	token, shared, ok := t.runs[run].next()
	if !ok {
		t.codes[run] = ended
		return
	}
	t.tokens[run], t.codes[run] = token, codeOf(token, shared)
}

// play plays a match and those before it, and returns the winner. The runs are the matches from
// len(runs) on.
func (t *tournament) play(match int) (winner int) {
	if match >= len(t.runs) {
		return match - len(t.runs)
	}
	a, b := t.play(2*match), t.play(2*match+1)
	if t.beats(b, a) {
		a, b = b, a
	}
	t.losers[match] = b
	return a
}

// beats reports whether the token of a run is lower than that of another run, or the same and its run
// comes first. The code of the loser becomes relative to the winner.
func (t *tournament) beats(a, b int) bool {
	code := t.codes[a]
	switch {
	case code != t.codes[b]:
		return code < t.codes[b]
	case isBase(code) || code == ended:
		return a < b
	}
	x, y := t.tokens[a], t.tokens[b]
	shared := sharedOf(code) + 1
	shared += commonPrefix(x[shared:], y[shared:])
	var beats bool
	switch {
	case shared == len(x) && shared == len(y):
		beats = a < b
	case shared == len(x) || shared == len(y):
		beats = shared == len(x)
	default:
		beats = x[shared] < y[shared]
	}
	if beats {
		t.codes[b] = codeOf(y, shared)
	} else {
		t.codes[a] = codeOf(x, shared)
	}
	return beats
}

// next returns the run with the lowest token, which is the next one of all, and how many bytes of it the
// one before has too. again is true if both are the same. ok is false at the end.
func (t *tournament) next() (winner, shared int, again, ok bool) {
	if len(t.runs) == 0 {
		return 0, 0, false, false
	}
	winner = t.losers[0]
	if t.taken {
		t.advance(winner)
		for match := (winner + len(t.runs)) / 2; match > 0; match /= 2 {
			if loser := t.losers[match]; t.codes[loser] <= t.codes[winner] && t.beats(loser, winner) {
				winner, t.losers[match] = loser, winner
			}
		}
		t.losers[0] = winner
	}
	t.taken = true
	code := t.codes[winner]
	return winner, sharedOf(code), isBase(code), code != ended
}
