package load

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/netns"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	backlog = 128                    // of each listener
	eofWait = 10 * time.Second       // limit of waiting for a server that closes first
	slice   = 100 * time.Millisecond // of a wait, after which ctx is checked
)

// Run makes connections until all have been tried or ctx is done. When ctx is done, Run closes
// the open connections and returns within a second. done, if not nil, counts the connections
// that have ended. A connection that cannot be made is not an error, and is counted in the
// Summary. A connection that ctx interrupts is not counted.
func Run(ctx context.Context, cfg Config, done *atomic.Int64) (Summary, error) {
	sum := Summary{Failed: make(map[error]int)}
	if err := cfg.Check(); err != nil {
		return sum, err
	}
	if done == nil {
		done = new(atomic.Int64)
	}
	limit := rate.NewLimiter(rate.Inf, 0)
	if cfg.Rate > 0 {
		// The burst of 10 ms lets a thread catch up after it has slept too long.
		limit = rate.NewLimiter(rate.Limit(cfg.Rate), max(1, int(cfg.Rate/100)))
	}
	var tried atomic.Int64
	began := time.Now()
	workers := make([]worker, max(1, cfg.Workers))
	errs := make(chan error, len(workers))
	for i := range workers {
		w := &workers[i]
		*w = worker{cfg: &cfg, limit: limit, tried: &tried, done: done, sum: Summary{Failed: make(map[error]int)}}
		go func() {
			run := func() error { return w.run(ctx) }
			if cfg.NetNS == "" {
				errs <- run()
			} else {
				errs <- netns.Do(cfg.NetNS, run)
			}
		}()
	}
	var first error
	for range workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	sum.Elapsed = time.Since(began)
	for i := range workers {
		part := &workers[i].sum
		sum.Made += part.Made
		sum.Connect.Merge(&part.Connect)
		for err, n := range part.Failed {
			sum.Failed[err] += n
		}
	}
	return sum, first
}

// A worker connects. Its second goroutine closes the connections when their time is over.
type worker struct {
	cfg      *Config
	limit    *rate.Limiter
	tried    *atomic.Int64
	done     *atomic.Int64
	listener int
	to       unix.Sockaddr
	family   int
	sum      Summary
}

// A connection has the descriptors of both ends. The server's is -1 if the server is not ours.
type connection struct {
	client, server int
	due            time.Time
}

func (w *worker) run(ctx context.Context) error {
	if err := w.prepare(); err != nil {
		return err
	}
	if w.listener >= 0 {
		defer unix.Close(w.listener)
	}
	var closing sync.WaitGroup
	held := make(chan connection, MaxHeld-2) // the closer has one more, and the worker one
	closing.Go(func() {
		for c := range held {
			select {
			case <-time.After(time.Until(c.due)):
			case <-ctx.Done():
			}
			w.end(ctx, c)
		}
	})
	for w.tried.Add(1) <= int64(w.cfg.Count) && w.limit.Wait(ctx) == nil && ctx.Err() == nil {
		c, err := w.connect(ctx)
		switch {
		case err != nil && err == ctx.Err():
		case err != nil:
			w.sum.Failed[err]++
			w.done.Add(1)
		case w.cfg.Hold == 0:
			w.sum.Made++
			w.end(ctx, c)
		default:
			w.sum.Made++
			c.due = time.Now().Add(w.cfg.Hold)
			held <- c
		}
	}
	close(held)
	closing.Wait()
	return nil
}

// prepare makes a listener, unless Connect is set.
func (w *worker) prepare() (err error) {
	w.listener, w.family = -1, unix.AF_INET
	if to := w.cfg.Connect; to.IsValid() {
		if to.Addr().Is4() {
			w.to = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		} else {
			w.family = unix.AF_INET6
			index, err := zone(to.Addr().Zone())
			if err != nil {
				return err
			}
			w.to = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: index}
		}
		return nil
	}
	fd, err := w.socket(0)
	if err != nil {
		return err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr("127.0.0.1").As4()})
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err == nil {
		w.to, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	w.listener = fd
	return nil
}

// zone is the index of the device of an address (RFC 4007). 0 means any device.
func zone(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil || name == "" {
		return uint32(n), nil
	}
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return uint32(dev.Index), nil
}

func (w *worker) socket(flags int) (int, error) {
	return unix.Socket(w.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
}

func (w *worker) connect(ctx context.Context) (connection, error) {
	c := connection{server: -1}
	var err error
	if c.client, err = w.socket(unix.SOCK_NONBLOCK); err != nil {
		return c, err
	}
	began := time.Now()
	if err = connect(ctx, c.client, w.to); err == nil {
		w.sum.Connect.Add(uint64(time.Since(began)))
		if w.listener >= 0 {
			c.server, err = accept(w.listener)
		}
	}
	if err != nil {
		unix.Close(c.client)
	}
	return c, err
}

// connect returns the errno of connect(2), or the error of ctx if ctx is done first. The socket
// must not block, because a SYN without an answer takes minutes.
func connect(ctx context.Context, fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	if err := await(ctx, fd, unix.POLLOUT); err != nil {
		return err
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

// await waits until a descriptor is ready, or ctx is done.
func await(ctx context.Context, fd int, events int16) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(slice/time.Millisecond))
		if n > 0 || err != nil && err != unix.EINTR {
			return err
		}
	}
	return ctx.Err()
}

func accept(listener int) (fd int, err error) {
	err = unix.EINTR
	for err == unix.EINTR {
		fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	return fd, err
}

// end closes both ends, in the order of Closer.
func (w *worker) end(ctx context.Context, c connection) {
	defer w.done.Add(1)
	ours := c.server >= 0
	switch w.cfg.Closer {
	case Server:
		if ours {
			unix.Close(c.server)
		} else {
			waitEOF(ctx, c.client)
		}
		unix.Close(c.client)
		return
	case Both:
		closed := make(chan struct{})
		go func() {
			unix.Close(c.server)
			close(closed)
		}()
		unix.Close(c.client)
		<-closed
		return
	case Reset:
		// SO_LINGER fails only if the descriptor is not a socket.
		_ = unix.SetsockoptLinger(c.client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(c.client)
	if ours {
		unix.Close(c.server)
	}
}

// waitEOF reads until the server has closed, or eofWait is over.
func waitEOF(ctx context.Context, fd int) {
	ctx, cancel := context.WithTimeout(ctx, eofWait)
	defer cancel()
	var buf [4096]byte
	for await(ctx, fd, unix.POLLIN) == nil {
		n, err := unix.Read(fd, buf[:])
		if err != unix.EINTR && err != unix.EAGAIN && n <= 0 {
			return
		}
	}
}
