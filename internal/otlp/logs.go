package otlp

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"finwait/internal/conns"
	"finwait/internal/families"
	"finwait/internal/label"
	"finwait/internal/text"
	"finwait/tracer"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
)

// Names of the events.
const (
	TransitionEvent = "finwait.tcp.transition"
	ConnectionEvent = "finwait.tcp.connection"
)

// Logs makes log records of transitions and connections. What is not known is left out. docs/otlp.md
// lists the attributes.
type Logs struct {
	logger   log.Logger
	provider *sdklog.LoggerProvider
	names    label.Names // nil: without names
	kvs      []attribute.KeyValue
}

// NewLogs makes records for a queue.
func (e *Exporter) NewLogs(q *Queue, names label.Names) *Logs {
	provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(q), sdklog.WithResource(e.resource),
		sdklog.WithAttributeCountLimit(-1), sdklog.WithAttributeValueLengthLimit(-1), sdklog.WithAllowKeyDuplication())
	return &Logs{logger: provider.Logger(e.scope.Name, log.WithInstrumentationVersion(e.scope.Version)), provider: provider, names: names}
}

// Shutdown sends what is left, for which it has 5 s.
func (l *Logs) Shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = l.provider.Shutdown(ctx) // the queue counts what was not sent
}

func (l *Logs) str(key, v string) {
	if v != "" {
		l.kvs = append(l.kvs, attribute.String(key, text.Printable(v)))
	}
}

func (l *Logs) num(key string, v int64) { l.kvs = append(l.kvs, attribute.Int64(key, v)) }

// ends are the connection, in the words of the semantic conventions.
func (l *Logs) ends(local, remote netip.AddrPort, scope tracer.Scope) {
	kind := "ipv6"
	if local.Addr().Is4() {
		kind = "ipv4"
	}
	l.kvs = append(l.kvs, attribute.String("network.transport", "tcp"), attribute.String("network.type", kind))
	for _, end := range []struct {
		key string
		at  netip.AddrPort
	}{{"network.local", scope.Zoned(local)}, {"network.peer", scope.Zoned(remote)}} {
		l.str(end.key+".address", end.at.Addr().String()) // the zone may have bytes that are not UTF-8
		if port := end.at.Port(); port != 0 {             // 0: the kernel has not chosen it yet
			l.num(end.key+".port", int64(port))
		}
	}
}

// who are the processes. The owner's pid has a word in the semantic conventions. Its name has none:
// process.executable.name is that of a file, and a comm can be set to anything.
func (l *Logs) who(owner *tracer.Owner, closer *tracer.Process) {
	if owner.PID != 0 {
		l.num("process.pid", int64(owner.PID))
		l.str("finwait.owner.comm", owner.Comm.String())
		if owner.Holder {
			l.kvs = append(l.kvs, attribute.Bool("finwait.owner.holder", true))
		}
	}
	if closer.PID != 0 {
		l.num("finwait.closer.pid", int64(closer.PID))
		l.str("finwait.closer.comm", closer.Comm.String())
	}
}

func (l *Logs) where(cookie uint64, netNS uint32, netNSCookie, cgroup uint64) {
	if cookie != 0 {
		l.num("finwait.cookie", int64(cookie))
	}
	l.num("finwait.netns", int64(netNS))
	l.num("finwait.netns_cookie", int64(netNSCookie))
	if l.names == nil {
		return
	}
	l.str("finwait.netns_name", l.names.NetNS(netNS, netNSCookie))
	if cgroup == 0 {
		return
	}
	c, _ := l.names.Cgroup(cgroup)
	l.str("k8s.namespace.name", c.PodNamespace)
	l.str("k8s.pod.name", c.Pod)
	l.str("k8s.pod.uid", c.PodUID)
	l.str("container.name", c.Container)
	l.str("container.id", c.ContainerID)
	l.str("finwait.unit", c.Unit)
}

// why is the reason of an end.
func (l *Logs) why(reason tracer.Reason, detail tracer.Detail, errno tracer.Errno) {
	l.str("finwait.reason", reason.String())
	l.str("finwait.detail", detail.String())
	if errno != 0 {
		l.str("error.type", errno.String())
	}
}

// state is what a state is called in attributes.
func state(s tracer.State) string { return families.StateWord(s) }

// emit hands the record over. at is when it happened; the zero time: not known.
func (l *Logs) emit(event string, at time.Time, body string) {
	var r log.Record
	r.SetEventName(event)
	if !at.IsZero() {
		r.SetTimestamp(at)
	}
	r.SetSeverity(log.SeverityInfo)
	r.SetBody(attribute.StringValue(body))
	r.AddAttributes(l.kvs...)
	l.logger.Emit(context.Background(), r)
}

// Transition makes a record of a transition.
func (l *Logs) Transition(t *tracer.Transition) error {
	l.kvs = l.kvs[:0]
	l.ends(t.Local, t.Remote, t.Scope)
	l.str("network.connection.state", state(t.To))
	l.str("finwait.from", state(t.From))
	if t.Known() {
		l.num("finwait.duration_ns", int64(t.Duration))
		l.str("finwait.precision", t.Precision.String())
	}
	l.str("finwait.role", t.Role.String())
	l.why(t.Reason, t.Detail, t.Errno)
	l.where(t.Cookie, t.NetNS, t.NetNSCookie, t.Owner.CgroupID)
	l.who(&t.Owner, &t.Closer)
	if t.Rearms > 0 {
		l.num("finwait.rearms", int64(t.Rearms))
	}
	l.emit(TransitionEvent, t.Time, t.From.String()+" -> "+t.To.String())
	return nil
}

// Conn makes a record of a connection that has ended. Its time is when the connection was opened, if
// that was seen.
func (l *Logs) Conn(c *conns.Conn) error {
	l.kvs = l.kvs[:0]
	l.ends(c.Local, c.Remote, c.Scope)
	l.str("network.connection.state", state(c.State))
	l.str("finwait.role", c.Role.String())
	l.why(c.Reason, c.Detail, c.Errno)
	l.str("finwait.first_fin", c.FirstFIN.String())
	for _, part := range []struct {
		key  string
		last func() (time.Duration, bool)
	}{{"finwait.handshake_ns", c.Handshake}, {"finwait.established_ns", c.Established}, {"finwait.closing_ns", c.Closing}, {"finwait.time_wait_ns", c.TimeWait}} {
		if part.key == "finwait.handshake_ns" && c.Role != tracer.RoleClient {
			continue // a server's waits in the kernel before it has a socket
		}
		if d, known := part.last(); known {
			l.num(part.key, int64(d))
		}
	}
	if m := &c.Metrics; m.Known {
		l.num("finwait.bytes_sent", int64(m.BytesSent))
		l.num("finwait.bytes_received", int64(m.BytesReceived))
		l.num("finwait.retransmits", int64(m.Retransmitted))
		if m.RTT > 0 {
			l.num("finwait.rtt_ns", int64(m.RTT))
		}
	}
	l.num("finwait.missed", int64(c.Missed))
	l.where(c.Cookie, c.NetNS, c.NetNSCookie, c.Owner.CgroupID)
	l.who(&c.Owner, &c.Closer)
	var at time.Time // the zero time: not known
	if c.Whole {
		at = c.Opened
	}
	l.emit(ConnectionEvent, at, cmp.Or(c.Reason.String(), c.State.String()))
	return nil
}

// End is for conns.Output.
func (l *Logs) End(*conns.Summary) error { return nil }
