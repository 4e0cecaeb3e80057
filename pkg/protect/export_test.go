package protect

// Kept returns how many keys the keyring has in memory.
func (k *Keyring) Kept() int { return k.roots.Len() + k.subjects.Len() }
