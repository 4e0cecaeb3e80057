package protect

import "bytes"

// Kept returns how many keys the keyring has in memory.
func (k *Keyring) Kept() int { return k.roots.Len() + k.subjects.Len() }

// Expand returns what keys of elements are cut from. info has 44 bytes.
func Expand(key *[KeyBytes]byte, info []byte) []byte {
	d := derivations.Get().(*derivation)
	defer derivations.Put(d)
	copy(d.info[:], info)
	d.expand(key)
	return bytes.Clone(d.derived[:])
}
