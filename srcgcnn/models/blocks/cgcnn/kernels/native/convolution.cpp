// The loops over edges of a convolution, float32, for the CPU; srcgcnn/models/native.py compiles, loads and explains them.
//
// The neighbours of an atom lie in its own crystal, so a block of whole crystals is worked on alone: what its atoms read and
// what they add to stays in the first cache levels, threads share nothing, and sums over blocks have a fixed order, which makes
// results independent of the number of threads. Nothing of size [edges, channels] exists: the edge part u of the Linear is made
// from the WINDOW Gaussians that are not zero in single precision, wherever it is needed.
//
// WIDTH (-DWIDTH=64) is the number of channels F, a multiple of 16. Plain C at the border, pointers to contiguous arrays.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

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
constexpr int COLUMNS = LANES == 16 ? 2 : 1;        // vectors of a row whose WINDOW sums are kept in registers
constexpr int CHUNK = 192;                          // edges whose gradients wait in the second cache level

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float InMemory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

inline Vector load(const float* from) { return *reinterpret_cast<const InMemory*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<InMemory*>(to) = value; }
inline void add(float* to, Vector value) { store(to, load(to) + value); }
inline Vector all(float value) { return Vector{} + value; }

// These keep NaN. The compiler does not find the instruction by itself.
#if defined(__AVX512F__)
inline Vector at_least(Vector x, float bound) { return Vector(_mm512_max_ps(__m512(all(bound)), __m512(x))); }
inline Vector at_most(Vector x, float bound) { return Vector(_mm512_min_ps(__m512(all(bound)), __m512(x))); }
#elif defined(__AVX2__)
inline Vector at_least(Vector x, float bound) { return Vector(_mm256_max_ps(__m256(all(bound)), __m256(x))); }
inline Vector at_most(Vector x, float bound) { return Vector(_mm256_min_ps(__m256(all(bound)), __m256(x))); }
#else
inline Vector at_least(Vector x, float bound) { return x < bound ? all(bound) : x; }
inline Vector at_most(Vector x, float bound) { return x > bound ? all(bound) : x; }
#endif

template <int COUNT>
inline Vector polynomial(Vector x, const float (&coefficients)[COUNT]) {
    Vector value = all(coefficients[COUNT - 1]);
#pragma GCC unroll 16
    for (int power = COUNT - 2; power >= 0; --power) value = value * x + coefficients[power];
    return value;
}

// 2^x = E(x) for |x| <= 1/2 with a relative error of 2e-9, and -log2(1 - t) = t L(t) for 0 <= t <= 1/2 with one of 2e-8, where
// float32 resolves 6e-8 (least squares on Chebyshev points, reweighted until the error was level).
constexpr float E[] = {1.000000000554172f,    0.6931472057372494f,    0.24022646890592042f,   0.055503287769950345f,
                       0.00961848896166403f, 0.0013399931209641034f, 0.00015345810780442802f};
constexpr float L[] = {1.442695073289764f,  0.7213371395889665f,  0.4814310401045023f, 0.3502495711478283f, 0.3893113727398787f,
                       -0.2950888082491246f, 1.8178107988879967f, -2.4506568992283394f, 2.08112004301806f};
constexpr float LIMIT = 100.0f;  // of exponents: one more rounding of 1 + 2^x would not show
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: after adding it the last bits are the nearest integer

inline Vector power_of_two(Vector x) {  // |x| <= LIMIT
    const Vector shifted = x + ROUND, rest = x - (shifted - ROUND);
    return Vector(Integers(polynomial(rest, E)) + (Integers(shifted) << 23));
}

struct Gate {
    Vector gate, core, slope;  // sigmoid(a), softplus(b) / ln 2, sigmoid(b)
};

// For first = -a / ln 2 and second = b / ln 2.
inline Gate activate(Vector first, Vector second) {
    const Vector minus_size = Vector(Integers(second) | INT32_MIN);
    const Vector below = power_of_two(at_least(minus_size, -LIMIT)), b = 1.0f + below;  // exp(-|b|)
    const Vector a = 1.0f + power_of_two(at_most(at_least(first, -LIMIT), LIMIT));
    const Vector inverse = 1.0f / (a * b);  // one division for both
    const Vector larger = inverse * a, smaller = below * larger;  // sigmoid(|b|), sigmoid(-|b|)
    return {inverse * b, at_least(second, 0.0f) + smaller * polynomial(smaller, L), second < 0.0f ? smaller : larger};
}

}  // namespace

extern "C" {

struct Edges {
    int64_t blocks;
    const int64_t* starts;     // [blocks + 1], first atom of each block
    int64_t degree;            // K
    const int32_t* neighbour;  // [N, K], -1 for masked edges
    int32_t* window;           // [N, K], number of the first Gaussian
    float* gaussian;           // [N, K, WINDOW]
};

// Where y = scale * z + shift, z = c + n + u, of one edge is made.
struct Parts {
    const float* centre;     // c [N, ROW]
    const float* neighbour;  // n [N, ROW]
    const float* weight;     // of the Gaussians [GAUSSIANS, ROW]
    const float* scale;      // [ROW]
    const float* shift;      // [ROW]
};
}

namespace {

// What `activate` takes, as a sum of three parts: scale, shift and its factors go into c, n and the weight beforehand.
struct Folded {
    float scale[ROW], shift[ROW];
    std::vector<float> weight;
    const Parts& parts;

    explicit Folded(const Parts& parts) : weight(GAUSSIANS * ROW), parts(parts) {
        for (int channel = 0; channel < ROW; ++channel) {
            const float factor = channel < WIDTH ? -LOG2E : LOG2E;
            scale[channel] = factor * parts.scale[channel];
            shift[channel] = factor * parts.shift[channel];
        }
        for (int64_t k = 0; k < GAUSSIANS; ++k) fold(parts.weight, k, nullptr, &weight[k * ROW]);
    }

    void fold(const float* from, int64_t row, const float* offset, float* to) const {
        for (int channel = 0; channel < ROW; ++channel)
            to[channel] = scale[channel] * from[row * ROW + channel] + (offset ? offset[channel] : 0.0f);
    }
    void centre(int64_t atom, float* to) const { fold(parts.centre, atom, shift, to); }
    std::vector<float> neighbours(int64_t first, int64_t end) const {
        std::vector<float> rows((end - first) * ROW);
        for (int64_t atom = first; atom < end; ++atom) fold(parts.neighbour, atom, nullptr, &rows[(atom - first) * ROW]);
        return rows;
    }
};

struct Tile {
    Vector gate[TILE], core[TILE];
};

// The three parts of one edge added up; all pointers are at the tile's first channel of the gate.
inline Tile sum_parts(const float* centre, const float* neighbour, const float* weight, const float* gaussian) {
    Tile sum;
#pragma GCC unroll 4
    for (int v = 0; v < TILE; ++v) {
        sum.gate[v] = load(centre + v * LANES) + load(neighbour + v * LANES);
        sum.core[v] = load(centre + WIDTH + v * LANES) + load(neighbour + WIDTH + v * LANES);
    }
#pragma GCC unroll 9
    for (int k = 0; k < WINDOW; ++k, weight += ROW) {
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            sum.gate[v] += gaussian[k] * load(weight + v * LANES);
            sum.core[v] += gaussian[k] * load(weight + WIDTH + v * LANES);
        }
    }
    return sum;
}

// The folded parts of a block of crystals, of one atom, and of a tile of channels.
struct View {
    const Edges& edges;
    const float *centre, *neighbours, *weight;
    int64_t first;  // atom of the block
    int channel;

    Tile edge(int64_t edge) const {
        const float* neighbour = neighbours + (edges.neighbour[edge] - first) * ROW + channel;
        return sum_parts(centre + channel, neighbour, weight + edges.window[edge] * ROW + channel, edges.gaussian + edge * WINDOW);
    }
};

void sum_gates(const View& view, int64_t atom, float* summed) {
    const Edges& edges = view.edges;
    Vector sums[TILE] = {};
    for (int64_t edge = atom * edges.degree; edge < (atom + 1) * edges.degree; ++edge) {
        if (edges.neighbour[edge] < 0) continue;
        const Tile y = view.edge(edge);
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            const Gate value = activate(y.gate[v], y.core[v]);
            sums[v] += value.gate * value.core;
        }
    }
    for (int v = 0; v < TILE; ++v) store(summed + atom * WIDTH + view.channel + v * LANES, LN2 * sums[v]);
}

// The gradient g of every edge of an atom, without the factors that all edges share: to `of_edges` [K, ROW], and its sums.
void differentiate(const View& view, int64_t atom, const float* upstream, float* of_centre, float* of_neighbour, float* of_edges) {
    const Edges& edges = view.edges;
    Tile sums = {};
    for (int64_t edge = atom * edges.degree; edge < (atom + 1) * edges.degree; ++edge, of_edges += ROW) {
        const int64_t other = edges.neighbour[edge];
        if (other < 0) continue;
        Tile g = view.edge(edge);
#pragma GCC unroll 4
        for (int v = 0; v < TILE; ++v) {
            const int place = view.channel + v * LANES;
            const Gate value = activate(g.gate[v], g.core[v]);
            const Vector passed = load(upstream + atom * WIDTH + place) * value.gate;
            g.gate[v] = passed * (1.0f - value.gate) * value.core;
            g.core[v] = passed * value.slope;
            sums.gate[v] += g.gate[v];
            sums.core[v] += g.core[v];
            add(of_neighbour + other * ROW + place, g.gate[v]);
            add(of_neighbour + other * ROW + WIDTH + place, g.core[v]);
            store(of_edges + place, g.gate[v]);
            store(of_edges + WIDTH + place, g.core[v]);
        }
    }
    for (int v = 0; v < TILE; ++v) {
        store(of_centre + atom * ROW + view.channel + v * LANES, sums.gate[v]);
        store(of_centre + atom * ROW + WIDTH + view.channel + v * LANES, sums.core[v]);
    }
}

// Number of the first Gaussian that counts at a distance in units of their step.
inline int32_t window_of(float distance) {
    const float nearest = std::nearbyint(distance), least = WINDOW / 2, most = GAUSSIANS - 1 - WINDOW / 2;
    return int32_t(nearest < least ? least : nearest > most ? most : nearest) - WINDOW / 2;
}

// Gaussians times g, added to the gradient of their weight; `of_edges` are the rows of the edges from `first` to `end`. Edges
// with the same window follow each other (a counting sort), so that their sums are loaded and stored once.
void add_products(const Edges& edges, int64_t first, int64_t end, const float* of_edges, int32_t* order, float* of_weight) {
    int32_t ends[GAUSSIANS + 1] = {};
    for (int64_t edge = first; edge < end; ++edge) ends[edges.window[edge] + 1] += edges.neighbour[edge] >= 0;
    for (int window = 0; window < GAUSSIANS; ++window) ends[window + 1] += ends[window];
    for (int64_t edge = first; edge < end; ++edge)
        if (edges.neighbour[edge] >= 0) order[ends[edges.window[edge]]++] = int32_t(edge - first);
    for (int window = 0, start = 0; window < GAUSSIANS; start = ends[window++]) {
        for (int channel = 0; start < ends[window] && channel < ROW; channel += COLUMNS * LANES) {
            float* rows = of_weight + window * ROW + channel;
            Vector sums[WINDOW][COLUMNS];
            for (int k = 0; k < WINDOW; ++k)
                for (int v = 0; v < COLUMNS; ++v) sums[k][v] = load(rows + k * ROW + v * LANES);
            for (int place = start; place < ends[window]; ++place) {
                const float* gaussian = edges.gaussian + (first + order[place]) * WINDOW;
                const float* g = of_edges + int64_t(order[place]) * ROW + channel;
#pragma GCC unroll 9
                for (int k = 0; k < WINDOW; ++k)
#pragma GCC unroll 2
                    for (int v = 0; v < COLUMNS; ++v) sums[k][v] += gaussian[k] * load(g + v * LANES);
            }
            for (int k = 0; k < WINDOW; ++k)
                for (int v = 0; v < COLUMNS; ++v) store(rows + k * ROW + v * LANES, sums[k][v]);
        }
    }
}

}  // namespace

extern "C" {

int lanes() { return LANES; }

// m [N, WIDTH], the sum of gated messages.
void gate_sum(const Edges* edges, const Parts* parts, float* summed) {
    const Folded folded(*parts);
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1];
        const std::vector<float> neighbours = folded.neighbours(first, end);
        float centre[ROW];
        for (int64_t atom = first; atom < end; ++atom) {
            folded.centre(atom, centre);
            for (int channel = 0; channel < WIDTH; channel += TILE * LANES)
                sum_gates({*edges, centre, neighbours.data(), folded.weight.data(), first, channel}, atom, summed);
        }
    }
}

// At fixed scale, with g the gradient of z: the gradients of c and n [N, ROW]; and one summand per block of that of the Gaussians'
// weight [blocks, GAUSSIANS, ROW] and of the sums of g and of g (c + n) over all edges [blocks, 2, ROW].
void gate_gradient(const Edges* edges, const Parts* parts, const float* upstream, float* of_centre, float* of_neighbour,
                   float* of_weight, float* moments) {
    const Folded folded(*parts);
    const int64_t degree = edges->degree, chunk = degree < CHUNK ? CHUNK / degree : 1;
    float factor[ROW];
    for (int channel = 0; channel < ROW; ++channel) factor[channel] = parts->scale[channel] * (channel < WIDTH ? LN2 : 1.0f);
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1];
        float *own_weight = of_weight + block * GAUSSIANS * ROW, *own = moments + block * 2 * ROW, centre[ROW];
        std::memset(of_neighbour + first * ROW, 0, sizeof(float) * (end - first) * ROW);
        std::memset(own_weight, 0, sizeof(float) * GAUSSIANS * ROW);
        std::memset(own, 0, sizeof(float) * 2 * ROW);
        const std::vector<float> neighbours = folded.neighbours(first, end);
        std::vector<float> of_edges(chunk * degree * ROW);
        std::vector<int32_t> order(chunk * degree);
        for (int64_t start = first; start < end; start += chunk) {
            const int64_t stop = start + chunk < end ? start + chunk : end;
            for (int64_t atom = start; atom < stop; ++atom) {
                folded.centre(atom, centre);
                for (int channel = 0; channel < WIDTH; channel += TILE * LANES) {
                    const View view{*edges, centre, neighbours.data(), folded.weight.data(), first, channel};
                    differentiate(view, atom, upstream, of_centre, of_neighbour, &of_edges[(atom - start) * degree * ROW]);
                }
            }
            add_products(*edges, start * degree, stop * degree, of_edges.data(), order.data(), own_weight);
        }
        for (int channel = 0; channel < ROW; channel += LANES) {
            const Vector by = load(factor + channel);
            for (int k = 0; k < GAUSSIANS; ++k) store(own_weight + k * ROW + channel, by * load(own_weight + k * ROW + channel));
            for (int64_t place = first * ROW + channel; place < end * ROW; place += ROW) {
                const Vector c = by * load(of_centre + place), n = by * load(of_neighbour + place);
                store(of_centre + place, c);
                store(of_neighbour + place, n);
                add(own + channel, c);
                add(own + ROW + channel, c * load(parts->centre + place) + n * load(parts->neighbour + place));
            }
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

// Fills `window` and `gaussian` of the edges from distances [N, K] in units of the Gaussians' step, and sums the Gaussians over
// the edges of an atom and over those that look at it, [N, GAUSSIANS] each, the number of the latter [N], and their products
// over all edges, one summand per block [blocks, GAUSSIANS, GAUSSIANS].
void expand_distances(const Edges* edges, const float* distance, float* centre, float* neighbour, float* in_degree,
                      float* products) {
    constexpr int PADDED = (WINDOW + LANES - 1) / LANES * LANES;
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < edges->blocks; ++block) {
        const int64_t first = edges->starts[block], end = edges->starts[block + 1], degree = edges->degree;
        float sums[GAUSSIANS * GAUSSIANS + PADDED] = {};
        std::memset(neighbour + first * GAUSSIANS, 0, sizeof(float) * (end - first) * GAUSSIANS);
        std::memset(in_degree + first, 0, sizeof(float) * (end - first));
        for (int64_t atom = first; atom < end; ++atom) {
            float seen[GAUSSIANS + PADDED] = {};
            for (int64_t edge = atom * degree; edge < (atom + 1) * degree; ++edge) {
                const int32_t window = edges->window[edge] = window_of(distance[edge]);
                float gaussian[PADDED];
                for (int k = 0; k < PADDED; ++k) gaussian[k] = distance[edge] - float(window + k);
                for (int k = 0; k < PADDED; k += LANES) {
                    const Vector offset = load(gaussian + k);
                    store(gaussian + k, power_of_two(at_least(-LOG2E * offset * offset, -LIMIT)));
                }
                std::memset(gaussian + WINDOW, 0, sizeof(float) * (PADDED - WINDOW));
                std::memcpy(edges->gaussian + edge * WINDOW, gaussian, sizeof(float) * WINDOW);
                const int64_t other = edges->neighbour[edge];
                if (other < 0) continue;
                in_degree[other] += 1.0f;
                for (int k = 0; k < WINDOW; ++k) neighbour[other * GAUSSIANS + window + k] += gaussian[k];
                for (int from = 0; from < PADDED; from += LANES) {
                    const Vector some = load(gaussian + from);
                    add(seen + window + from, some);
                    for (int k = 0; k < WINDOW; ++k) add(sums + (window + k) * GAUSSIANS + window + from, gaussian[k] * some);
                }
            }
            std::memcpy(centre + atom * GAUSSIANS, seen, sizeof(float) * GAUSSIANS);
        }
        std::memcpy(products + block * GAUSSIANS * GAUSSIANS, sums, sizeof(float) * GAUSSIANS * GAUSSIANS);
    }
}
}
