// The loops over edges of a convolution, float32, for the CPU; srcgcnn/models/native.py compiles, loads and explains them.
//
// The neighbours of an atom lie in its own crystal, so a block of whole crystals is worked on alone: what its atoms read and
// what they add to stays in the first cache levels, threads share nothing, and sums over blocks have a fixed order, which makes
// results independent of the number of threads. Nothing of size [edges, channels] exists: the edge part u of the Linear is made
// from the WINDOW Gaussians that are not zero in single precision, wherever it is needed.
//
// WIDTH (-DWIDTH=64) is the number of channels F, a multiple of 16. Plain C at the border, pointers to contiguous arrays.

#include <cstdint>
#include <cstring>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
constexpr int GAUSSIANS = 41, WINDOW = 9;
constexpr int ROW = 2 * WIDTH;                      // channels of z: gate, then core
constexpr int HALF = WIDTH / LANES;                 // vectors of the gate
constexpr int TILE = HALF % 4 == 0 ? 4 : HALF % 2 == 0 ? 2 : 1;  // vectors of the gate (and of the core) kept in registers

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float InMemory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const InMemory*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<InMemory*>(to) = value; }
inline void add(float* to, Vector value) { store(to, load(to) + value); }
inline Vector all(float value) { return Vector{} + value; }
inline Vector at_least(Vector x, float bound) { return x < bound ? all(bound) : x; }  // these keep NaN
inline Vector at_most(Vector x, float bound) { return x > bound ? all(bound) : x; }

template <int COUNT>
inline Vector polynomial(Vector x, const float (&coefficients)[COUNT]) {
    Vector value = all(coefficients[COUNT - 1]);
#pragma GCC unroll 16
    for (int power = COUNT - 2; power >= 0; --power) value = value * x + coefficients[power];
    return value;
}

// tanh(x/2)/2 = x P(x^2) / Q(x^2) for |x| < 17.5 with an error of 7e-9, where float32 resolves 3e-8 (least squares on Chebyshev
// points, reweighted until the error was level), and -log(1 - t) = t L(t) for 0 <= t <= 1/2 with an error of 2e-8.
constexpr float LIMIT = 17.5f;
constexpr float P[] = {0.24999998202995083f, 0.008368640845773254f, 5.478602703709334e-05f, 8.123551742809751e-08f,
                       1.3316140580445858e-11f};
constexpr float Q[] = {1.0f, 0.11680782557240099f, 0.0016198168194778689f, 5.161913906987298e-06f, 3.0808298788133998e-09f};
constexpr float L[] = {1.0000000229175898f,  0.4999928054186209f, 0.3337025589640745f,  0.2427744528848084f, 0.2698501332807165f,
                       -0.2045397450567233f, 1.260010442412675f,  -1.6986658138686495f, 1.4425228758568305f};

struct Gate {
    Vector gate, core, slope;  // sigmoid(first), softplus(second), sigmoid(second)
};

inline Gate activate(Vector first, Vector second) {
    const Vector a = at_most(at_least(first, -LIMIT), LIMIT), b = at_most(at_least(second, -LIMIT), LIMIT);
    const Vector a2 = a * a, b2 = b * b, qa = polynomial(a2, Q), qb = polynomial(b2, Q);
    const Vector inverse = 1.0f / (qa * qb);  // one division for both
    const Vector half_a = a * polynomial(a2, P) * qb * inverse, half_b = b * polynomial(b2, P) * qa * inverse;
    const Vector below = 0.5f - (half_b < 0.0f ? -half_b : half_b);  // sigmoid(-|second|)
    return {0.5f + half_a, at_least(second, 0.0f) + below * polynomial(below, L), 0.5f + half_b};
}

}  // namespace

extern "C" {

struct Edges {
    int64_t blocks;
    const int64_t* starts;     // [blocks + 1], first atom of each block
    int64_t degree;            // K
    const int32_t* neighbour;  // [N, K], -1 for masked edges
    const int32_t* window;     // [N, K], number of the first Gaussian
    const float* gaussian;     // [N, K, WINDOW]
};

// Where z = c + n + u of one edge is made.
struct Parts {
    const float* centre;     // c [N, ROW]
    const float* neighbour;  // n [N, ROW]
    const float* weight;     // of the Gaussians [GAUSSIANS, ROW]
    const float* scale;      // [ROW]
    const float* shift;      // [ROW]
};
}

namespace {

struct Tile {
    Vector gate[TILE], core[TILE];
};

// y = scale * z + shift of one edge, for the channels from `channel` on.
inline Tile normalised(const Parts& parts, int64_t atom, int64_t other, const float* rows, const float* gaussian, int channel) {
    const float *centre = parts.centre + atom * ROW + channel, *neighbour = parts.neighbour + other * ROW + channel;
    Tile z;
#pragma GCC unroll 4
    for (int v = 0; v < TILE; ++v) {
        z.gate[v] = load(centre + v * LANES) + load(neighbour + v * LANES);
        z.core[v] = load(centre + WIDTH + v * LANES) + load(neighbour + WIDTH + v * LANES);
    }
#pragma GCC unroll 9
    for (int k = 0; k < WINDOW; ++k) {
        const float *row = rows + k * ROW + channel;
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            z.gate[v] += gaussian[k] * load(row + v * LANES);
            z.core[v] += gaussian[k] * load(row + WIDTH + v * LANES);
        }
    }
    const float *scale = parts.scale + channel, *shift = parts.shift + channel;
#pragma GCC unroll 4
    for (int v = 0; v < TILE; ++v) {
        z.gate[v] = z.gate[v] * load(scale + v * LANES) + load(shift + v * LANES);
        z.core[v] = z.core[v] * load(scale + WIDTH + v * LANES) + load(shift + WIDTH + v * LANES);
    }
    return z;
}

void sum_gates(const Edges& edges, const Parts& parts, int64_t atom, int channel, float* summed) {
    Vector sums[TILE] = {};
    for (int64_t edge = atom * edges.degree; edge < (atom + 1) * edges.degree; ++edge) {
        const int64_t other = edges.neighbour[edge];
        if (other < 0) continue;
        const float* rows = parts.weight + edges.window[edge] * ROW;
        const Tile y = normalised(parts, atom, other, rows, edges.gaussian + edge * WINDOW, channel);
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            const Gate value = activate(y.gate[v], y.core[v]);
            sums[v] += value.gate * value.core;
        }
    }
    for (int v = 0; v < TILE; ++v) store(summed + atom * WIDTH + channel + v * LANES, sums[v]);
}

void differentiate(const Edges& edges, const Parts& parts, const float* upstream, int64_t atom, int channel, float* of_centre,
                   float* of_neighbour, float* of_weight) {
    Tile sums = {};
    for (int64_t edge = atom * edges.degree; edge < (atom + 1) * edges.degree; ++edge) {
        const int64_t other = edges.neighbour[edge];
        if (other < 0) continue;
        const int64_t window = int64_t(edges.window[edge]) * ROW;
        const float* gaussian = edges.gaussian + edge * WINDOW;
        Tile g = normalised(parts, atom, other, parts.weight + window, gaussian, channel);
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            const int place = channel + v * LANES;
            const Gate value = activate(g.gate[v], g.core[v]);
            const Vector passed = load(upstream + atom * WIDTH + place) * value.gate;
            g.gate[v] = passed * (1.0f - value.gate) * value.core * load(parts.scale + place);
            g.core[v] = passed * value.slope * load(parts.scale + WIDTH + place);
            sums.gate[v] += g.gate[v];
            sums.core[v] += g.core[v];
            add(of_neighbour + other * ROW + place, g.gate[v]);
            add(of_neighbour + other * ROW + WIDTH + place, g.core[v]);
        }
#pragma GCC unroll 9
        for (int k = 0; k < WINDOW; ++k) {
            float* row = of_weight + window + k * ROW + channel;
#pragma GCC unroll 4
            for (int v = 0; v < TILE; ++v) {
                add(row + v * LANES, gaussian[k] * g.gate[v]);
                add(row + WIDTH + v * LANES, gaussian[k] * g.core[v]);
            }
        }
    }
    for (int v = 0; v < TILE; ++v) {
        store(of_centre + atom * ROW + channel + v * LANES, sums.gate[v]);
        store(of_centre + atom * ROW + WIDTH + channel + v * LANES, sums.core[v]);
    }
}

}  // namespace

extern "C" {

int lanes() { return LANES; }

// m [N, WIDTH], the sum of gated messages.
void gate_sum(const Edges* edges, const Parts* parts, float* summed) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block)
        for (int64_t atom = edges->starts[block]; atom < edges->starts[block + 1]; ++atom)
            for (int channel = 0; channel < WIDTH; channel += TILE * LANES) sum_gates(*edges, *parts, atom, channel, summed);
}

// At fixed scale, with g the gradient of z: the gradients of c and n [N, ROW]; and one summand per block of that of the Gaussians'
// weight [blocks, GAUSSIANS, ROW] and of the sums of g and of g (c + n) over all edges [blocks, 2, ROW].
void gate_gradient(const Edges* edges, const Parts* parts, const float* upstream, float* of_centre, float* of_neighbour,
                   float* of_weight, float* moments) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1];
        float *own_weight = of_weight + block * GAUSSIANS * ROW, *own = moments + block * 2 * ROW;
        std::memset(of_neighbour + first * ROW, 0, sizeof(float) * (end - first) * ROW);
        std::memset(own_weight, 0, sizeof(float) * GAUSSIANS * ROW);
        std::memset(own, 0, sizeof(float) * 2 * ROW);
        for (int64_t atom = first; atom < end; ++atom)
            for (int channel = 0; channel < WIDTH; channel += TILE * LANES)
                differentiate(*edges, *parts, upstream, atom, channel, of_centre, of_neighbour, own_weight);
        for (int64_t atom = first; atom < end; ++atom)
            for (int channel = 0; channel < ROW; channel += LANES) {
                const int64_t place = atom * ROW + channel;
                const Vector g = load(of_centre + place), by = load(of_neighbour + place);
                add(own + channel, g);
                add(own + ROW + channel, g * load(parts->centre + place) + by * load(parts->neighbour + place));
            }
    }
}

// Sums of z = c + n + u over the edges of an atom and over those that look at it, [N, ROW] each, from the sums of u (projected),
// and of z^2 less u^2 over all edges, one summand per block [blocks, ROW].
void edge_sums(const Edges* edges, const float* centre, const float* neighbour, const float* projected, const float* projected_by,
               const float* out_degree, const float* in_degree, float* over_seen, float* over_seen_by, float* squares) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1];
        std::memcpy(over_seen + first * ROW, projected + first * ROW, sizeof(float) * (end - first) * ROW);
        std::memcpy(over_seen_by + first * ROW, projected_by + first * ROW, sizeof(float) * (end - first) * ROW);
        for (int64_t atom = first; atom < end; ++atom)
            for (int64_t edge = atom * edges->degree; edge < (atom + 1) * edges->degree; ++edge) {
                const int64_t other = edges->neighbour[edge];
                if (other < 0) continue;
                for (int channel = 0; channel < ROW; channel += LANES) {
                    add(over_seen + atom * ROW + channel, load(neighbour + other * ROW + channel));
                    add(over_seen_by + other * ROW + channel, load(centre + atom * ROW + channel));
                }
            }
        float* own = squares + block * ROW;
        std::memset(own, 0, sizeof(float) * ROW);
        for (int64_t atom = first; atom < end; ++atom)
            for (int channel = 0; channel < ROW; channel += LANES) {
                const int64_t place = atom * ROW + channel;
                const Vector c = load(centre + place), n = load(neighbour + place);
                const Vector q = load(over_seen + place) + out_degree[atom] * c;
                const Vector r = load(over_seen_by + place) + in_degree[atom] * n;
                store(over_seen + place, q);
                store(over_seen_by + place, r);
                add(own + channel, c * (q + load(projected + place)) + n * (r + load(projected_by + place)));
            }
    }
}

// Sums of the Gaussians over the edges of an atom and over those that look at it, [N, GAUSSIANS] each, the number of the latter
// [N], and sums of their products over all edges, one summand per block [blocks, GAUSSIANS, GAUSSIANS].
void gaussian_sums(const Edges* edges, float* centre, float* neighbour, float* in_degree, float* products) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1];
        float* own = products + block * GAUSSIANS * GAUSSIANS;
        std::memset(own, 0, sizeof(float) * GAUSSIANS * GAUSSIANS);
        std::memset(centre + first * GAUSSIANS, 0, sizeof(float) * (end - first) * GAUSSIANS);
        std::memset(neighbour + first * GAUSSIANS, 0, sizeof(float) * (end - first) * GAUSSIANS);
        std::memset(in_degree + first, 0, sizeof(float) * (end - first));
        for (int64_t atom = first; atom < end; ++atom)
            for (int64_t edge = atom * edges->degree; edge < (atom + 1) * edges->degree; ++edge) {
                const int64_t other = edges->neighbour[edge], window = edges->window[edge];
                if (other < 0) continue;
                const float* gaussian = edges->gaussian + edge * WINDOW;
                in_degree[other] += 1.0f;
                for (int k = 0; k < WINDOW; ++k) {
                    centre[atom * GAUSSIANS + window + k] += gaussian[k];
                    neighbour[other * GAUSSIANS + window + k] += gaussian[k];
                    for (int l = 0; l < WINDOW; ++l) own[(window + k) * GAUSSIANS + window + l] += gaussian[k] * gaussian[l];
                }
            }
    }
}
}
