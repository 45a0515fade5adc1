package queue

// Buffers is guest memory in the order of its descriptors: how a driver cut a
// request has no meaning (virtio 1.2 §2.6.4). Read and Write consume it.
type Buffers [][]byte

// Len is what is left, in bytes.
func (b Buffers) Len() int {
	n := 0
	for _, s := range b {
		n += len(s)
	}
	return n
}

// Read copies out up to len(p) bytes and says how many there were.
func (b *Buffers) Read(p []byte) int {
	return b.each(len(p), func(at int, s []byte) { copy(p[at:], s) })
}

// Write copies in as much of p as there is room for and says how much.
func (b *Buffers) Write(p []byte) int {
	return b.each(len(p), func(at int, s []byte) { copy(s, p[at:]) })
}

// Take splits off the first n bytes, or all if there are fewer. They alias
// guest memory.
func (b *Buffers) Take(n int) Buffers {
	var taken Buffers
	b.each(n, func(_ int, s []byte) { taken = append(taken, s) })
	return taken
}

// each consumes up to n bytes, piece by piece.
func (b *Buffers) each(n int, do func(at int, s []byte)) int {
	done := 0
	for done < n && len(*b) > 0 {
		s := (*b)[0]
		if len(s) > n-done {
			(*b)[0] = s[n-done:]
			s = s[:n-done]
		} else {
			*b = (*b)[1:]
		}
		do(done, s)
		done += len(s)
	}
	return done
}
