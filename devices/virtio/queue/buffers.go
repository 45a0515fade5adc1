package queue

// Buffers is guest memory in descriptor order. How a driver splits a request into descriptors has
// no meaning (virtio 1.2 §2.6.4). Read and Write consume it.
type Buffers [][]byte

// Len returns the number of remaining bytes.
func (b Buffers) Len() int {
	n := 0
	for _, s := range b {
		n += len(s)
	}
	return n
}

// Read copies up to len(p) bytes out of the buffers and returns the number copied.
func (b *Buffers) Read(p []byte) (n int) {
	for n < len(p) && len(*b) > 0 {
		n += b.consume(copy(p[n:], (*b)[0]))
	}
	return n
}

// Write copies as much of p into the buffers as fits and returns the number of bytes copied.
func (b *Buffers) Write(p []byte) (n int) {
	for n < len(p) && len(*b) > 0 {
		n += b.consume(copy((*b)[0], p[n:]))
	}
	return n
}

// Take splits off the first n bytes, or all if there are fewer. The result aliases guest memory.
func (b *Buffers) Take(n int) Buffers { return b.TakeInto(nil, n) }

// TakeInto is like Take, but appends the result to taken to reuse its array.
func (b *Buffers) TakeInto(taken Buffers, n int) Buffers {
	for n > 0 && len(*b) > 0 {
		s := (*b)[0]
		s = s[:min(n, len(s))]
		taken = append(taken, s)
		n -= b.consume(len(s))
	}
	return taken
}

// consume drops n bytes of the first buffer and returns n.
func (b *Buffers) consume(n int) int {
	if s := (*b)[0]; n < len(s) {
		(*b)[0] = s[n:]
	} else {
		*b = (*b)[1:]
	}
	return n
}
